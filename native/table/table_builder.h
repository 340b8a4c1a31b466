#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "build_progress.h"
#include "row_input.h"
#include "shard_format.h"

namespace onnx_serving {

/** The hash seed of a build that does not choose another: equal inputs give equal files. */
inline constexpr uint64_t kDefaultHashSeed = 0x6f6e6e782d746162u;

/** What to build. */
struct TableBuildOptions {
  /** An existing directory: the shard files go there, and meanwhile the spill. */
  std::string directory;
  ShardKind kind = ShardKind::kSnapshot;
  RowType rowType = RowType::kF32;
  /** Elements a row; 0 takes that of the first row. Not for rows of bytes. */
  uint32_t dim = 0;
  /** 1 to ShardHeader::kMaxShards. */
  uint32_t shards = 1;
  uint64_t hashSeed = kDefaultHashSeed;
  unsigned threads = 1;
  /** For buffers and partitions in work; 16 MiB and more. */
  uint64_t memoryLimit = uint64_t{1} << 30;
  /** Whether to compute the mean of all rows; not for rows of bytes. */
  bool wantsMean = false;
  /** Whether a snapshot without rows is allowed, which as a rule is a mistake in the inputs. */
  bool allowsNoRows = false;
};

/** A shard file that was written. */
struct BuiltShard {
  /** Within the directory. */
  std::string name;
  uint64_t rows = 0;
  uint64_t deletes = 0;
  uint64_t bytes = 0;
  /** ShardHeader::digestOf. */
  uint64_t digest = 0;
};

/** What a build made. */
struct BuiltTable {
  uint32_t dim = 0;
  /** As asked for, unless the keys did not fit with that one. */
  uint64_t hashSeed = 0;
  std::vector<BuiltShard> shards;
  /** Different keys with a row, and, in a delta, deleted ones. */
  uint64_t rows = 0;
  uint64_t deletes = 0;
  /** Rows of the inputs, and those of them that a later row of the same key replaced. */
  uint64_t rowsRead = 0;
  uint64_t duplicates = 0;
  /** Keys of the delete inputs. */
  uint64_t deletesRead = 0;
  /** How the work was cut, for those who measure it. */
  uint64_t partitions = 0;
  uint64_t spilledBytes = 0;
  unsigned threads = 0;
  double readingSeconds = 0;
  double writingSeconds = 0;
  /** Empty unless asked for. */
  std::vector<float> mean;
};

/** The name of a shard file: part-00000-of-00004.shard. */
std::string shardFileName(uint32_t shard, uint32_t shards);

/**
 * Builds the shard files of a snapshot or a delta from any number of rows, in bounded memory.
 *
 * Of rows and deletes of one key the last counts, in the order of `inputs`. In a delta a delete is kept, in a
 * snapshot it only takes back earlier rows. Equal inputs and options but for threads and memory give the same
 * rows; with those equal too, the same files.
 *
 * Blocks for as long as it takes, in `threads` threads of its own, the calling one among them. After a
 * failure no shard file is left.
 *
 * @return the errors of the inputs; SRV_BAD_INPUT_FILE when there are no rows; SRV_TABLE_MISMATCH when rows
 * do not fit the table, or the keys do not fit their buckets; SRV_IO, SRV_OUT_OF_MEMORY, SRV_CANCELLED
 */
Result<BuiltTable> buildTable(const TableBuildOptions& options, std::span<const RowInput> inputs,
                              BuildProgress& progress);

}  // namespace onnx_serving
