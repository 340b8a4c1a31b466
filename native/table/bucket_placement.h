#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "key_hash.h"

namespace onnx_serving {

/** A key of a group, with what the caller keeps beside it. */
struct GroupKey {
  uint64_t key;
  /** Home bucket, counted from the first of the group. */
  uint32_t home;
  /** The caller's. */
  uint32_t row;
};

/**
 * Finds a slot for every key of a group: at home wherever there is room, else in its other bucket.
 *
 * A key is in its other bucket only if its home bucket is full, so that a lookup may stop at a home bucket
 * with an empty slot. For one thread at a time; keeps its memory from group to group.
 */
class BucketPlacement {
 public:
  static constexpr uint32_t kEmpty = std::numeric_limits<uint32_t>::max();

  BucketPlacement(const BucketGrid& grid, uint64_t seed);

  /**
   * @param keys distinct keys of one group; those that come first are the first to stay at home
   * @return false when they do not fit: more keys than slots, or too many that want the same buckets
   */
  bool place(std::span<const GroupKey> keys);

  /** Of the last `place`: for each slot the index of its key or `kEmpty`, buckets filled from the front. */
  std::span<const uint32_t> slots() const { return slots_; }

 private:
  static constexpr uint32_t kSlots = BucketGrid::kBucketSlots;

  uint32_t otherOf(const GroupKey& key) const {
    return static_cast<uint32_t>(grid_.other(hashKey(key.key, seed_)) % grid_.groupBuckets);
  }
  bool isFull(uint32_t bucket) const { return used_[bucket] == kSlots; }
  void put(uint32_t bucket, uint32_t index) { slots_[size_t{bucket} * kSlots + used_[bucket]++] = index; }
  /** A step of a search: the key in `slot` would go to `bucket`, and the one of step `from` into its slot. */
  struct Step {
    uint32_t slot;
    uint32_t bucket;
    uint32_t from;
  };
  bool makeRoom(std::span<const GroupKey> keys, uint32_t index);
  uint32_t moveAlong(Step step);

  BucketGrid grid_;
  uint64_t seed_;
  std::vector<uint32_t> slots_;
  std::vector<uint8_t> used_;
  std::vector<uint32_t> homeless_;
  std::vector<Step> steps_;
  /** Number of the last search that came to a bucket. */
  std::vector<uint32_t> seen_;
  uint32_t search_ = 0;
};

/**
 * A key for the slots of an empty bucket: one that is looked for neither in it nor, as its other bucket,
 * there.
 *
 * @param bucket counted from the first of the shard
 */
uint64_t fillerOf(const BucketGrid& grid, uint64_t seed, uint64_t bucket);

}  // namespace onnx_serving
