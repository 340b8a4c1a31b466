#pragma once

#include <cstdint>

namespace onnx_serving {

/** The upper half of a 128-bit product: maps a hash to [0, range) without a division. */
inline uint64_t scaleHash(uint64_t hash, uint64_t range) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(hash) * range) >> 64);
}

/**
 * Hash of a key within its shard; only its upper bits are meant to be used, through `scaleHash`.
 *
 * A bijection for each seed: two keys never have one hash. Keys that count up, or that differ only in their
 * upper bits, spread evenly.
 */
inline uint64_t hashKey(uint64_t key, uint64_t seed) {
  uint64_t x = key ^ seed;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9u;
  return x;
}

/** The shard of a key: unsigned remainder, as Cube has it. */
inline uint64_t shardOf(uint64_t key, uint64_t shards) { return key % shards; }

/**
 * Where the keys of a shard are: `groups` groups of `groupBuckets` buckets of `kBucketSlots` slots.
 *
 * A key is in its home bucket, or, if that one is full, in its other bucket, which is in the same group. So a
 * shard can be written group by group, and a lookup looks at two buckets at most.
 */
struct BucketGrid {
  static constexpr uint64_t kBucketSlots = 8;
  /** With three buckets or fewer an empty bucket could find no key to be filled with that does not belong. */
  static constexpr uint64_t kMinGroupBuckets = 4;

  uint64_t groups = 1;
  uint64_t groupBuckets = kMinGroupBuckets;

  uint64_t buckets() const { return groups * groupBuckets; }
  uint64_t groupOf(uint64_t hash) const { return scaleHash(hash, groups); }
  uint64_t home(uint64_t hash) const { return scaleHash(hash, buckets()); }
  /** Never equal to `home`. */
  uint64_t other(uint64_t hash) const {
    const uint64_t first = groupOf(hash) * groupBuckets;
    const uint64_t step = 1 + scaleHash(hash * 0x9e3779b97f4a7c15u, groupBuckets - 1);
    uint64_t within = home(hash) - first + step;
    if (within >= groupBuckets) within -= groupBuckets;
    return first + within;
  }
};

}  // namespace onnx_serving
