#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "build_plan.h"
#include "build_progress.h"
#include "row_input.h"
#include "spill.h"
#include "spill_record.h"

namespace onnx_serving {

/** The beginning of the first input with rows, read to see how wide they are. */
struct FirstRows {
  static constexpr size_t kNone = SIZE_MAX;
  size_t input = kNone;
  std::unique_ptr<RowSource> source;
  RowBatch rows;
};

/** Opens inputs until one has rows; `input` is kNone when none has. The errors of the inputs. */
Result<FirstRows> readFirstRows(std::span<const RowInput> inputs);

/** Where a row goes. */
struct Partitioning {
  uint64_t shards;
  uint64_t partitionsPerShard;
  uint64_t seed;

  size_t partitions() const { return shards * partitionsPerShard; }
  size_t partitionOf(uint64_t key) const {
    const uint64_t within = scaleHash(hashKey(key, seed), partitionsPerShard);
    return shards == 1 ? within : shardOf(key, shards) * partitionsPerShard + within;
  }
};

/** First pass: every row of every input, encoded and in the spill of its partition. */
class InputPass {
 public:
  InputPass(std::span<const RowInput> inputs, RowType type, uint32_t dim, const Partitioning& partitioning,
            FirstRows first, BuildProgress& progress);

  /**
   * Reads all inputs, in as many threads as the plan says. Of several failures that of the first input.
   * The errors of the inputs, SRV_TABLE_MISMATCH and SRV_BAD_INPUT_FILE for rows that do not fit, SRV_IO,
   * SRV_OUT_OF_MEMORY, SRV_CANCELLED.
   */
  Status run(const BuildPlan& plan, const std::string& spillDirectory);

  /** Of `run`, for the second pass. */
  std::span<const SpillFile> files() const { return files_; }
  /** By partition. */
  std::span<const SpillCounts> counts() const { return counts_; }

 private:
  void runThread(SpillFile& file, size_t bufferBytes);
  Status readInput(size_t input, SpillWriter& writer, RowBatch& batch);
  Status spillRows(const RowInput& input, const RowBatch& batch, SpillWriter& writer);
  void fail(size_t input, Status status);

  std::span<const RowInput> inputs_;
  RowEncoder floats_;
  RowEncoder stored_;
  SpillRecord record_;
  Partitioning partitioning_;
  FirstRows first_;
  BuildProgress& progress_;
  /** Rows that a call of `read` is asked for. */
  size_t batchRows_;

  std::atomic<size_t> nextInput_ = 0;
  std::vector<SpillFile> files_;
  std::vector<SpillCounts> counts_;

  std::mutex mutex_;
  Status failure_;
  /** The first input that failed: those before it are still read, in case one of them fails too. */
  std::atomic<size_t> failedInput_ = SIZE_MAX;
};

}  // namespace onnx_serving
