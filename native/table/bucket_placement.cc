#include "bucket_placement.h"

#include <algorithm>

namespace onnx_serving {
namespace {

/** Searches of fill .98 look at a few hundred steps; what needs more does not fit. */
constexpr size_t kMaxSteps = 20'000;
constexpr uint32_t kNoStep = std::numeric_limits<uint32_t>::max();

}  // namespace

BucketPlacement::BucketPlacement(const BucketGrid& grid, uint64_t seed)
    : grid_(grid),
      seed_(seed),
      slots_(grid.groupBuckets * kSlots),
      used_(grid.groupBuckets),
      seen_(grid.groupBuckets) {}

bool BucketPlacement::place(std::span<const GroupKey> keys) {
  if (keys.size() > slots_.size()) return false;
  std::fill(slots_.begin(), slots_.end(), kEmpty);
  std::fill(used_.begin(), used_.end(), uint8_t{0});
  homeless_.clear();
  for (uint32_t i = 0; i < keys.size(); ++i) {
    if (isFull(keys[i].home)) {
      homeless_.push_back(i);
    } else {
      put(keys[i].home, i);
    }
  }
  // Only now that every bucket has its own keys may the others come: a bucket that is full stays full.
  for (const uint32_t index : homeless_) {
    const uint32_t other = otherOf(keys[index]);
    if (!isFull(other)) {
      put(other, index);
    } else if (!makeRoom(keys, index)) {
      return false;
    }
  }
  return true;
}

/**
 * Breadth-first search for a chain of keys that each move to their second bucket, the last into an empty
 * slot. The home bucket comes first: a key that leaves it for another costs one key away from home, as if
 * this one had gone; through the other bucket it may cost two.
 */
bool BucketPlacement::makeRoom(std::span<const GroupKey> keys, uint32_t index) {
  steps_.clear();
  ++search_;
  const auto expand = [&](uint32_t bucket, uint32_t from) {
    if (seen_[bucket] == search_) return;
    seen_[bucket] = search_;
    for (uint32_t slot = bucket * kSlots; slot < (bucket + 1) * kSlots; ++slot) {
      const GroupKey& resident = keys[slots_[slot]];
      const uint32_t goal = resident.home == bucket ? otherOf(resident) : resident.home;
      steps_.push_back({slot, goal, from});
    }
  };
  expand(keys[index].home, kNoStep);
  expand(otherOf(keys[index]), kNoStep);
  for (size_t next = 0; next < steps_.size() && next < kMaxSteps; ++next) {
    const Step step = steps_[next];
    if (isFull(step.bucket)) {
      expand(step.bucket, static_cast<uint32_t>(next));
      continue;
    }
    put(step.bucket, slots_[step.slot]);
    slots_[moveAlong(step)] = index;
    return true;
  }
  return false;
}

/** Moves every key of the chain that ends with `step` one on; returns the slot that this leaves free. */
uint32_t BucketPlacement::moveAlong(Step step) {
  while (step.from != kNoStep) {
    const Step before = steps_[step.from];
    slots_[step.slot] = slots_[before.slot];
    step = before;
  }
  return step.slot;
}

uint64_t fillerOf(const BucketGrid& grid, uint64_t seed, uint64_t bucket) {
  for (uint64_t key = 0;; ++key) {
    const uint64_t hash = hashKey(key, seed);
    if (grid.home(hash) != bucket && grid.other(hash) != bucket) return key;
  }
}

}  // namespace onnx_serving
