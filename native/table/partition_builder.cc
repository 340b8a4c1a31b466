#include "partition_builder.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "distinct_counter.h"

namespace onnx_serving {
namespace {

constexpr uint32_t kDelete = 1u << 31;
constexpr size_t kKeysBytes = BucketGrid::kBucketSlots * sizeof(uint64_t);
constexpr size_t kLine = 64;
/** Buckets between the one that is filled and the one whose rows are fetched. */
constexpr uint64_t kPrefetchDistance = 2;

Status cancelled() { return {code::kCancelled, "the build was cancelled"}; }

/** The keys of a bucket and the keys of its empty slots, as the format wants them. */
void writeKeys(std::span<const GroupKey> keys, std::span<const uint32_t> slots, uint64_t filler,
               std::byte* to) {
  uint64_t line[BucketGrid::kBucketSlots];
  const uint64_t rest = slots[0] == BucketPlacement::kEmpty ? filler : keys[slots[0]].key;
  for (size_t i = 0; i < BucketGrid::kBucketSlots; ++i) {
    line[i] = slots[i] == BucketPlacement::kEmpty ? rest : keys[slots[i]].key;
  }
  std::memcpy(to, line, sizeof line);
}

}  // namespace

Status PartitionBuilder::build(ShardWriter& shard, const PartitionTask& task, PartitionOutcome& outcome) {
  const ShardHeader& header = shard.header();
  const BucketGrid& grid = header.grid;
  const uint64_t groups = grid.groups / task.partitions;
  const uint64_t first = task.inShard * groups;
  RegionWriter buckets(shard, header.buckets.offset + first * grid.groupBuckets * header.bucketBytes());
  RegionWriter rows(shard, task.rowOffset);
  for (uint64_t part = 0; part < task.parts && outcome.isPlaced; ++part) {
    const GroupRange range{header.hashSeed, grid.groups, first + groups * part / task.parts,
                           first + groups * (part + 1) / task.parts};
    const bool isWhole = task.parts == 1;
    Status status = loaded_.load(files_, task.partition, isWhole ? std::nullopt : std::optional(range));
    if (status.ok()) status = sortByBucket(grid, range);
    if (status.ok()) status = buildGroups(shard, range, buckets, rows, outcome);
    if (!status.ok()) return status;
  }
  std::sort(outcome.deletes.begin(), outcome.deletes.end());
  if (Status status = buckets.finish(); !status.ok()) return status;
  return rows.finish();
}

/** Counting sort, which keeps the order of the inputs. */
Status PartitionBuilder::sortByBucket(const BucketGrid& grid, const GroupRange& groups) {
  const uint64_t firstBucket = groups.first * grid.groupBuckets;
  const uint64_t buckets = (groups.end - groups.first) * grid.groupBuckets;
  if (buckets >= kDelete) return {code::kOutOfMemory, "a partition of the table has too many buckets"};
  const size_t bytes = loaded_.records() * sizeof(GroupKey);
  if (bytes > keyMemory_.size()) {
    keyMemory_ = {};
    Result<MemoryBlock> memory = MemoryBlock::allocate(bytes + bytes / 8);
    if (!memory.ok()) return memory.status();
    keyMemory_ = std::move(memory.value());
  }
  keys_ = {reinterpret_cast<GroupKey*>(keyMemory_.data()), static_cast<size_t>(loaded_.records())};
  const auto bucketOf = [&](uint64_t key) {
    return static_cast<uint32_t>(grid.home(hashKey(key, groups.seed)) - firstBucket);
  };
  ends_.assign(buckets, 0);
  loaded_.forEach([&](const std::byte* record, bool) { ++ends_[bucketOf(SpillRecord::keyOf(record))]; });
  uint32_t before = 0;
  for (uint32_t& end : ends_) {
    const uint32_t count = end;
    end = before;
    before += count;
  }
  loaded_.forEach([&](const std::byte* record, bool isDelete) {
    const uint64_t key = SpillRecord::keyOf(record);
    const uint32_t bucket = bucketOf(key);
    keys_[ends_[bucket]++] = {key, isDelete ? kDelete : 0, loaded_.numberOf(record)};
  });
  return {};
}

Status PartitionBuilder::buildGroups(ShardWriter& shard, const GroupRange& groups, RegionWriter& buckets,
                                     RegionWriter& rows, PartitionOutcome& outcome) {
  const ShardHeader& header = shard.header();
  BucketPlacement placement(header.grid, header.hashSeed);
  image_.resize(header.grid.groupBuckets * header.bucketBytes());
  for (uint64_t group = groups.first; group < groups.end; ++group) {
    if (isCancelled_.load(std::memory_order_relaxed)) return cancelled();
    const uint64_t firstBucket = (group - groups.first) * header.grid.groupBuckets;
    const std::span<const GroupKey> kept = keepLast(firstBucket, header.grid.groupBuckets, outcome);
    outcome.rows += kept.size();
    outcome.isPlaced = placement.place(kept);
    if (!outcome.isPlaced) return {};
    Status status = fillImage(header, group, kept, placement.slots(), rows);
    if (status.ok()) status = buckets.append(image_);
    if (!status.ok()) return status;
  }
  return {};
}

/** Moves the last record of each key of a group to the front of the group's keys, without the deletes. */
std::span<GroupKey> PartitionBuilder::keepLast(uint64_t firstBucket, uint64_t buckets,
                                               PartitionOutcome& outcome) {
  const size_t groupBegin = firstBucket == 0 ? 0 : ends_[firstBucket - 1];
  size_t kept = groupBegin;
  size_t at = groupBegin;
  for (uint64_t bucket = 0; bucket < buckets; ++bucket) {
    const size_t bucketBegin = kept;
    bool hasDeletes = false;
    for (const size_t end = ends_[firstBucket + bucket]; at < end; ++at) {
      const GroupKey& later = keys_[at];
      size_t same = bucketBegin;
      while (same < kept && keys_[same].key != later.key) ++same;
      if (same == kept) {
        ++kept;
      } else if (keys_[same].home != kDelete && later.home != kDelete) {
        ++outcome.duplicates;
      }
      hasDeletes = hasDeletes || later.home == kDelete;
      keys_[same] = later;
    }
    if (hasDeletes) {
      size_t rows = bucketBegin;
      for (size_t i = bucketBegin; i < kept; ++i) {
        if (keys_[i].home == kDelete) {
          outcome.deletes.push_back(keys_[i].key);
        } else {
          keys_[rows++] = keys_[i];
        }
      }
      kept = rows;
    }
    for (size_t i = bucketBegin; i < kept; ++i) keys_[i].home = static_cast<uint32_t>(bucket);
  }
  return keys_.subspan(groupBegin, kept - groupBegin);
}

Status PartitionBuilder::fillImage(const ShardHeader& header, uint64_t group, std::span<const GroupKey> keys,
                                   std::span<const uint32_t> slots, RegionWriter& rows) {
  const BucketGrid& grid = header.grid;
  const size_t payloadBytes = header.payloadBytes();
  const size_t bucketBytes = header.bucketBytes();
  const bool isInBucket = header.placement == Placement::kInBucket;
  const auto slotsOf = [&](uint64_t bucket) {
    return slots.subspan(bucket * BucketGrid::kBucketSlots, BucketGrid::kBucketSlots);
  };
  for (uint64_t bucket = 0; bucket < grid.groupBuckets; ++bucket) {
    if (bucket + kPrefetchDistance < grid.groupBuckets) {
      prefetchRows(keys, slotsOf(bucket + kPrefetchDistance));
    }
    const std::span<const uint32_t> own = slotsOf(bucket);
    std::byte* const begin = image_.data() + bucket * bucketBytes;
    const bool isEmpty = own[0] == BucketPlacement::kEmpty;
    const uint64_t filler = isEmpty ? fillerOf(grid, header.hashSeed, group * grid.groupBuckets + bucket) : 0;
    writeKeys(keys, own, filler, begin);
    std::byte* payload = begin + kKeysBytes;
    for (size_t i = 0; i < own.size() && own[i] != BucketPlacement::kEmpty; ++i, payload += payloadBytes) {
      const std::byte* const record = loaded_.recordOf(keys[own[i]].row);
      if (sum_ != nullptr) sum_->add(record + SpillRecord::kKeyBytes);
      if (isInBucket) {
        std::memcpy(payload, record + SpillRecord::kKeyBytes, payloadBytes);
        continue;
      }
      const uint64_t offset = rows.position() - header.rowData.offset;
      std::memcpy(payload, &offset, sizeof offset);
      if (Status status = rows.append(record_.paddedRow(record)); !status.ok()) return status;
    }
    std::memset(payload, 0, static_cast<size_t>(begin + bucketBytes - payload));
  }
  return {};
}

void PartitionBuilder::prefetchRows(std::span<const GroupKey> keys,
                                    std::span<const uint32_t> bucketSlots) const {
  // The further lines of wide rows follow in order, which the processor sees for itself.
  const size_t bytes = std::min<size_t>(std::max(record_.fixedBytes(), kLine), 4 * kLine);
  for (const uint32_t slot : bucketSlots) {
    if (slot == BucketPlacement::kEmpty) return;
    const std::byte* const record = loaded_.recordOf(keys[slot].row);
    for (size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(record + at);
    __builtin_prefetch(record + bytes - 1);
  }
}

Status PartitionBuilder::collectDeletes(size_t partition, std::vector<uint64_t>& deletes) {
  if (Status status = loaded_.load(files_, partition, std::nullopt); !status.ok()) return status;
  loaded_.forEach([&](const std::byte* record, bool) { deletes.push_back(SpillRecord::keyOf(record)); });
  std::sort(deletes.begin(), deletes.end());
  deletes.erase(std::unique(deletes.begin(), deletes.end()), deletes.end());
  return {};
}

Result<uint64_t> PartitionBuilder::countDistinct(const PartitionTask& task, uint64_t seed, uint64_t share) {
  const uint64_t first = task.inShard * share;
  const GroupRange range{seed, task.partitions * share, first, first + 1};
  const bool isWhole = task.parts == 1;
  Status status = loaded_.load(files_, task.partition, isWhole ? std::nullopt : std::optional(range));
  if (!status.ok()) return status;
  size_t keys = 0;
  loaded_.forEach([&](const std::byte* record, bool isDelete) {
    keys += !isDelete && range.holds(SpillRecord::keyOf(record)) ? 1 : 0;
  });
  DistinctCounter counter(keys);
  loaded_.forEach([&](const std::byte* record, bool isDelete) {
    const uint64_t key = SpillRecord::keyOf(record);
    if (!isDelete && range.holds(key)) counter.add(key);
  });
  return uint64_t{counter.count()};
}

}  // namespace onnx_serving
