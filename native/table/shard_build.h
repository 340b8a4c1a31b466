#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "build_plan.h"
#include "partition_builder.h"
#include "table_builder.h"

namespace onnx_serving {

/** What all shards of a build have in common. */
struct ShardBuildSetup {
  const TableBuildOptions& options;
  const BuildPlan& plan;
  /** With the dim and the seed of this try. */
  uint32_t dim;
  uint64_t hashSeed;
  /** As GridNeeds. */
  double relief;
};

/**
 * One shard in its second pass: its file is opened by the first thread that builds one of its partitions, and
 * finished by the last.
 */
class ShardBuild {
 public:
  /** @param counts what each partition of the shard received */
  ShardBuild(const ShardBuildSetup& setup, uint32_t shard, std::span<const SpillCounts> counts);

  /**
   * Builds one partition, and the file's end when it is the last. For several threads at once, each with a
   * builder of its own. The errors of PartitionBuilder::build; SRV_IO.
   *
   * @return false when the keys do not fit their buckets
   */
  Result<bool> buildPartition(uint64_t partition, PartitionBuilder& builder);

  /** Removes the file, if it was made. Once no thread builds any more. */
  void removeFile() const;

  /** Once all partitions are built. */
  const BuiltShard& built() const { return built_; }
  uint64_t duplicates() const { return duplicates_; }

 private:
  Status open(PartitionBuilder& builder);
  Result<uint64_t> estimateKeys(PartitionBuilder& builder) const;
  Status writeEmptyGroup();
  Status finish();
  PartitionTask taskOf(uint64_t partition) const;
  std::string path() const { return setup_.options.directory + "/" + built_.name; }
  bool hasRows() const { return total_.rows > 0; }

  const ShardBuildSetup& setup_;
  uint32_t shard_;
  std::span<const SpillCounts> counts_;
  SpillCounts total_;

  std::mutex mutex_;
  bool isOpened_ = false;
  bool isCreated_ = false;
  Status openStatus_;
  std::unique_ptr<ShardWriter> writer_;
  uint64_t partitionsLeft_;
  uint64_t rows_ = 0;
  uint64_t duplicates_ = 0;
  std::vector<uint64_t> deletes_;
  BuiltShard built_;
};

}  // namespace onnx_serving
