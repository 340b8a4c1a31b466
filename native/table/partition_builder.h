#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bucket_placement.h"
#include "loaded_partition.h"
#include "row_sum.h"
#include "shard_writer.h"
#include "spill.h"

namespace onnx_serving {

/** One partition of one shard: which records, and where they go. */
struct PartitionTask {
  /** Number of the partition in the spill files. */
  size_t partition;
  /** Number of the partition in its shard, and partitions of each shard. */
  uint64_t inShard;
  uint64_t partitions;
  /** Place in the file of its first row behind the buckets. */
  uint64_t rowOffset;
  /** In so many parts the partition is loaded. */
  uint64_t parts;
};

/** What came of a partition. */
struct PartitionOutcome {
  /** False: the keys do not fit their buckets, and nothing else here counts. */
  bool isPlaced = true;
  uint64_t rows = 0;
  /** Rows that a later row of the same key replaced. */
  uint64_t duplicates = 0;
  /** Keys whose last word is a delete; ascending. */
  std::vector<uint64_t> deletes;
};

/**
 * Second pass: turns the records of a partition into finished groups of a shard's file, keeping of each key
 * the last record. For one thread at a time; keeps its memory between partitions.
 */
class PartitionBuilder {
 public:
  /** @param sum takes every row that is kept; may be null */
  PartitionBuilder(std::span<const SpillFile> files, const SpillRecord& record, RowSum* sum,
                   const std::atomic<bool>& isCancelled)
      : files_(files), record_(record), loaded_(record), sum_(sum), isCancelled_(isCancelled) {}

  /**
   * Writes the groups of a partition. The shard must have keys. SRV_IO, SRV_OUT_OF_MEMORY, SRV_CANCELLED;
   * with a failure the outcome does not count.
   */
  Status build(ShardWriter& shard, const PartitionTask& task, PartitionOutcome& outcome);

  /** As `build`, for a shard that has no rows but may have deletes. */
  Status collectDeletes(size_t partition, std::vector<uint64_t>& deletes);

  /**
   * Different keys among the rows of a partition, or, for a `share` above 1, among those in the first of so
   * many equal ranges of its hashes. SRV_IO, SRV_OUT_OF_MEMORY.
   */
  Result<uint64_t> countDistinct(const PartitionTask& task, uint64_t seed, uint64_t share);

 private:
  Status sortByBucket(const BucketGrid& grid, const GroupRange& groups);
  Status buildGroups(ShardWriter& shard, const GroupRange& groups, RegionWriter& buckets, RegionWriter& rows,
                     PartitionOutcome& outcome);
  std::span<GroupKey> keepLast(uint64_t firstBucket, uint64_t buckets, PartitionOutcome& outcome);
  Status fillImage(const ShardHeader& header, uint64_t group, std::span<const GroupKey> keys,
                   std::span<const uint32_t> slots, RegionWriter& rows);
  void prefetchRows(std::span<const GroupKey> keys, std::span<const uint32_t> bucketSlots) const;

  std::span<const SpillFile> files_;
  SpillRecord record_;
  LoadedPartition loaded_;
  RowSum* sum_;
  const std::atomic<bool>& isCancelled_;
  /** Keys of the loaded groups, sorted by bucket; within a bucket in the order of the inputs. */
  MemoryBlock keyMemory_;
  std::span<GroupKey> keys_;
  /** Where the keys of each loaded bucket end. */
  std::vector<uint32_t> ends_;
  std::vector<std::byte> image_;
};

}  // namespace onnx_serving
