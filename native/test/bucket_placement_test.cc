#include "../table/bucket_placement.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "../table/grid_choice.h"
#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr uint64_t kSeed = 7;
constexpr uint64_t kSlots = BucketGrid::kBucketSlots;

/** Distinct keys that all belong to one group. */
std::vector<GroupKey> keysOfGroup(const BucketGrid& grid, uint64_t group, size_t count, uint64_t first) {
  std::vector<GroupKey> keys;
  for (uint64_t key = first; keys.size() < count; ++key) {
    const uint64_t hash = hashKey(key, kSeed);
    if (grid.groupOf(hash) != group) continue;
    const auto home = static_cast<uint32_t>(grid.home(hash) - group * grid.groupBuckets);
    keys.push_back({key, home, static_cast<uint32_t>(keys.size())});
  }
  return keys;
}

/** Share of keys that are away from home. Ends the test unless each has one slot, by the rule. */
double checkPlaced(const BucketGrid& grid, std::span<const GroupKey> keys, std::span<const uint32_t> slots) {
  CHECK(slots.size() == grid.groupBuckets * kSlots);
  std::vector<int> found(keys.size());
  size_t away = 0;
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (slots[slot] == BucketPlacement::kEmpty) continue;
    CHECK(slot % kSlots == 0 || slots[slot - 1] != BucketPlacement::kEmpty);
    const GroupKey& key = keys[slots[slot]];
    ++found[slots[slot]];
    const size_t bucket = slot / kSlots;
    if (key.home == bucket) continue;
    ++away;
    CHECK(grid.other(hashKey(key.key, kSeed)) % grid.groupBuckets == bucket);
    CHECK(slots[key.home * kSlots + kSlots - 1] != BucketPlacement::kEmpty);
  }
  CHECK(std::all_of(found.begin(), found.end(), [](int count) { return count == 1; }));
  return keys.empty() ? 0 : static_cast<double>(away) / static_cast<double>(keys.size());
}

void testLoads() {
  const BucketGrid grid{3, 4096};
  BucketPlacement placement(grid, kSeed);
  double before = 0;
  for (const double load : {0.0, 0.3, 0.6, 0.857, 0.92, 0.957, 0.98}) {
    const auto count = static_cast<size_t>(load * static_cast<double>(grid.groupBuckets * kSlots));
    const auto keys = keysOfGroup(grid, 1, count, 1000);
    CHECK(placement.place(keys));
    const double away = checkPlaced(grid, keys, placement.slots());
    CHECK(away >= before);
    CHECK(load != 0.857 || away < 0.095);
    CHECK(load != 0.957 || away < 0.17);
    before = away;
  }
}

void testSmallGroups() {
  std::mt19937_64 random(3);
  for (uint64_t buckets : {4, 5, 7, 16, 64}) {
    const BucketGrid grid{2, buckets};
    BucketPlacement placement(grid, kSeed);
    for (uint64_t count = 0; count <= buckets * 6; count += 1 + buckets / 8) {
      const auto keys = keysOfGroup(grid, 0, count, random());
      if (placement.place(keys)) checkPlaced(grid, keys, placement.slots());
      CHECK(count > buckets * 4 || placement.place(keys));
    }
    CHECK(!placement.place(keysOfGroup(grid, 0, buckets * kSlots + 1, 5)));
  }
}

void testFailure() {
  const BucketGrid grid{1, 64};
  BucketPlacement placement(grid, kSeed);
  // More keys than two buckets hold, all with the same two.
  std::vector<GroupKey> keys;
  for (uint64_t key = 0; keys.size() < 2 * kSlots + 1; ++key) {
    const uint64_t hash = hashKey(key, kSeed);
    if (grid.home(hash) == 3 && grid.other(hash) == 9) keys.push_back({key, 3, 0});
  }
  CHECK(!placement.place(keys));
  keys.pop_back();
  CHECK(placement.place(keys));
  checkPlaced(grid, keys, placement.slots());
}

void testFillers() {
  for (uint64_t buckets : {4, 5, 1000}) {
    const BucketGrid grid{2, buckets};
    for (uint64_t bucket = 0; bucket < std::min<uint64_t>(grid.buckets(), 100); ++bucket) {
      const uint64_t hash = hashKey(fillerOf(grid, kSeed, bucket), kSeed);
      CHECK(grid.home(hash) != bucket && grid.other(hash) != bucket);
    }
  }
}

/** The chosen grid holds what it was chosen for, and costs 12 bytes a key where chance allows it. */
void testGridChoice() {
  struct Row {
    uint64_t payload;
    double mostOverhead;
  };
  for (const Row row : {Row{64, 12.1}, Row{8, 12.1}, Row{24, 12.1}, Row{256, 12.9}, Row{376, 19}}) {
    const uint64_t bucketBytes = (kSlots * (8 + row.payload) + 63) / 64 * 64;
    for (const uint64_t partitions : {1, 7}) {
      const GridNeeds needs{3'000'000, partitions, 1, row.payload, bucketBytes};
      const BucketGrid grid = chooseGrid(needs);
      CHECK(grid.groups % partitions == 0);
      const double bytes = static_cast<double>(grid.buckets() * bucketBytes) / 3e6;
      CHECK(bytes - 8 - static_cast<double>(row.payload) < row.mostOverhead);
    }
  }
  CHECK(chooseGrid({}).groups == 1 && chooseGrid({}).groupBuckets == 4);
  CHECK(chooseGrid({1'000'000, 2, 50, 64, 576}).groups == 100);
  // Every small number of keys fits.
  for (uint64_t count = 1; count < 400; ++count) {
    for (const uint64_t payload : {8, 64, 376}) {
      const BucketGrid grid = chooseGrid({count, 1, 1, payload, (kSlots * (8 + payload) + 63) / 64 * 64});
      BucketPlacement placement(grid, kSeed);
      CHECK(placement.place(keysOfGroup(grid, 0, count, count * 1000)));
    }
  }
}

}  // namespace

void testBucketPlacement() {
  testLoads();
  testSmallGroups();
  testFailure();
  testFillers();
  testGridChoice();
}
