#include "shard_build.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "grid_choice.h"

namespace onnx_serving {
namespace {

/** A sample may be off by so many deviations before keys find no room. */
constexpr double kSampleDeviations = 4;

uint64_t divideUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

}  // namespace

ShardBuild::ShardBuild(const ShardBuildSetup& setup, uint32_t shard, std::span<const SpillCounts> counts)
    : setup_(setup), shard_(shard), counts_(counts), partitionsLeft_(counts.size()) {
  for (const SpillCounts& partition : counts) total_ += partition;
  built_.name = shardFileName(shard, setup.options.shards);
}

PartitionTask ShardBuild::taskOf(uint64_t partition) const {
  PartitionTask task{};
  task.partition = shard_ * counts_.size() + partition;
  task.inShard = partition;
  task.partitions = counts_.size();
  const SpillCounts& counts = counts_[partition];
  task.parts = std::max<uint64_t>(divideUp(counts.rowBytes + counts.deleteBytes, setup_.plan.partBytes), 1);
  return task;
}

Result<bool> ShardBuild::buildPartition(uint64_t partition, PartitionBuilder& builder) {
  {
    // The others wait: without the grid there is nothing that they could do.
    const std::lock_guard lock(mutex_);
    if (!isOpened_) openStatus_ = open(builder);
    isOpened_ = true;
    if (!openStatus_.ok()) return openStatus_;
  }
  PartitionOutcome outcome;
  PartitionTask task = taskOf(partition);
  if (hasRows()) {
    task.rowOffset = writer_->header().rowData.offset;
    for (const SpillCounts& before : counts_.first(partition)) {
      task.rowOffset += before.rowBytes - before.rows * SpillRecord::kKeyBytes;
    }
    if (Status status = builder.build(*writer_, task, outcome); !status.ok()) return status;
    if (!outcome.isPlaced) return false;
  } else if (Status status = builder.collectDeletes(task.partition, outcome.deletes); !status.ok()) {
    return status;
  }
  const std::lock_guard lock(mutex_);
  rows_ += outcome.rows;
  duplicates_ += outcome.duplicates;
  if (setup_.options.kind == ShardKind::kDelta) {
    deletes_.insert(deletes_.end(), outcome.deletes.begin(), outcome.deletes.end());
  }
  if (--partitionsLeft_ > 0) return true;
  if (Status status = finish(); !status.ok()) return status;
  return true;
}

Status ShardBuild::open(PartitionBuilder& builder) {
  ShardHeader header;
  header.kind = setup_.options.kind;
  header.rowType = setup_.options.rowType;
  header.dim = setup_.dim;
  header.placement = placementOf(header.rowType, header.dim);
  header.shard = shard_;
  header.shards = setup_.options.shards;
  header.hashSeed = setup_.hashSeed;

  GridNeeds needs;
  if (hasRows()) {
    Result<uint64_t> keys = estimateKeys(builder);
    if (!keys.ok()) return keys.status();
    needs.keys = keys.value();
  }
  needs.partitions = counts_.size();
  for (uint64_t i = 0; i < counts_.size(); ++i) {
    needs.groupsPerPartition = std::max(needs.groupsPerPartition, taskOf(i).parts);
  }
  needs.payloadBytes = header.payloadBytes();
  needs.bucketBytes = header.bucketBytes();
  needs.maxGroupBytes = setup_.plan.groupBytes;
  needs.relief = setup_.relief;
  header.grid = chooseGrid(needs);
  const bool isBehind = header.placement == Placement::kBehind;
  header.layOut(isBehind ? total_.rowBytes - total_.rows * SpillRecord::kKeyBytes : 0);

  Result<std::unique_ptr<ShardWriter>> writer = ShardWriter::create(path(), header);
  if (!writer.ok()) return writer.status();
  isCreated_ = true;
  writer_ = std::move(writer.value());
  return hasRows() ? Status() : writeEmptyGroup();
}

/** At most so many different keys, counted in a sample: those whose hashes are in the first range. */
Result<uint64_t> ShardBuild::estimateKeys(PartitionBuilder& builder) const {
  const uint64_t share = std::max<uint64_t>(divideUp(counts_[0].rows, setup_.plan.sampleKeys), 1);
  Result<uint64_t> counted = builder.countDistinct(taskOf(0), setup_.hashSeed, share);
  if (!counted.ok()) return counted;
  const auto ranges = static_cast<double>(share * counts_.size());
  const auto found = static_cast<double>(counted.value());
  const double spread = ranges > 1 ? kSampleDeviations * std::sqrt(found + 1) : 0;
  const double most = std::ceil((found + spread) * ranges);
  // Rows without duplicates are known exactly. A shard of deletes alone has no rows and does not come here.
  return std::clamp<uint64_t>(static_cast<uint64_t>(most), 1, total_.rows);
}

Status ShardBuild::writeEmptyGroup() {
  const ShardHeader& header = writer_->header();
  std::vector<std::byte> image(header.buckets.bytes);
  for (uint64_t bucket = 0; bucket < header.grid.buckets(); ++bucket) {
    const uint64_t filler = fillerOf(header.grid, header.hashSeed, bucket);
    for (uint64_t slot = 0; slot < BucketGrid::kBucketSlots; ++slot) {
      std::memcpy(image.data() + bucket * header.bucketBytes() + slot * sizeof filler, &filler,
                  sizeof filler);
    }
  }
  RegionWriter region(*writer_, header.buckets.offset);
  if (Status status = region.append(image); !status.ok()) return status;
  return region.finish();
}

void ShardBuild::removeFile() const {
  if (isCreated_) (void)unlink(path().c_str());
}

Status ShardBuild::finish() {
  std::sort(deletes_.begin(), deletes_.end());
  Result<uint64_t> digest = writer_->finish(rows_, deletes_);
  if (!digest.ok()) return digest.status();
  built_.rows = rows_;
  built_.deletes = deletes_.size();
  built_.bytes = writer_->header().fileBytes;
  built_.digest = digest.value();
  writer_.reset();
  deletes_ = {};
  return {};
}

}  // namespace onnx_serving
