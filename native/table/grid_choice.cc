#include "grid_choice.h"

#include <algorithm>
#include <cmath>

namespace onnx_serving {
namespace {

constexpr double kOverheadBytes = 12;
constexpr uint64_t kGroupBuckets = 4096;
constexpr double kDeviations = 6.5;
constexpr double kDeviationsOfOne = 2;
constexpr double kMostFill = 0.99;

uint64_t ceiling(double value) { return static_cast<uint64_t>(std::ceil(value)); }

}  // namespace

double targetLoad(uint64_t payloadBytes, uint64_t bucketBytes) {
  const double slot = static_cast<double>(bucketBytes) / BucketGrid::kBucketSlots;
  const double padding = slot - 8 - static_cast<double>(payloadBytes);
  return slot / (slot + kOverheadBytes - padding);
}

BucketGrid chooseGrid(const GridNeeds& needs) {
  if (needs.keys == 0) return {1, BucketGrid::kMinGroupBuckets};
  const double load = targetLoad(needs.payloadBytes, needs.bucketBytes) * needs.relief;
  const auto keys = static_cast<double>(needs.keys);
  const double buckets = keys / (load * BucketGrid::kBucketSlots);
  const auto groupBuckets = static_cast<double>(std::clamp<uint64_t>(
      needs.maxGroupBytes / needs.bucketBytes, BucketGrid::kMinGroupBuckets, kGroupBuckets));
  const uint64_t perPartition = std::max(
      needs.groupsPerPartition, ceiling(buckets / groupBuckets / static_cast<double>(needs.partitions)));
  const uint64_t groups = needs.partitions * perPartition;

  const double groupKeys = keys / static_cast<double>(groups);
  // One group has a known number of keys; only which buckets they want is left to chance.
  const double deviations = groups == 1 ? kDeviationsOfOne : kDeviations;
  const double fullest = groupKeys + deviations * std::sqrt(groupKeys);
  const double least = fullest / (kMostFill * needs.relief * BucketGrid::kBucketSlots);
  return {groups, std::max({BucketGrid::kMinGroupBuckets,
                            ceiling(groupKeys / (load * BucketGrid::kBucketSlots)), ceiling(least)})};
}

}  // namespace onnx_serving
