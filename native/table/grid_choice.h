#pragma once

#include <cstdint>

#include "key_hash.h"

namespace onnx_serving {

/** What the buckets of a shard have to hold. */
struct GridNeeds {
  /** Keys, at most. 0 gives the smallest grid. */
  uint64_t keys = 0;
  /** The number of groups is a multiple of this: partitions hold whole groups. */
  uint64_t partitions = 1;
  /** Each partition has at least so many groups. */
  uint64_t groupsPerPartition = 1;
  uint64_t payloadBytes = 0;
  uint64_t bucketBytes = 0;
  /** Largest group, which is made in memory. */
  uint64_t maxGroupBytes = uint64_t{16} << 20;
  /** Keys a slot are lowered to this share of the best; for another try after keys did not fit. */
  double relief = 1;
};

/**
 * The share of slots that hold a key when everything beside key and row, padding and empty slots, takes 12
 * bytes a key.
 */
double targetLoad(uint64_t payloadBytes, uint64_t bucketBytes);

/**
 * Chooses the grid of a shard: groups of about 4096 buckets, filled to the target load, or to less where
 * the fullest of many groups (6.5 deviations over the mean) would not find 1 % of its slots empty.
 */
BucketGrid chooseGrid(const GridNeeds& needs);

}  // namespace onnx_serving
