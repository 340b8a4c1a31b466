#include "../table/overlay.h"

#include <map>
#include <random>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr uint64_t kSeed = 0x5eed;

const std::byte* lookUp(const Overlay& overlay, uint64_t key) {
  const uint64_t hash = overlay.hash(key);
  const std::byte* row = overlay.find(key, overlay.home(hash));
  // What is there, the filter lets through.
  CHECK(row == nullptr || Overlay::mayHold(*overlay.filterWord(hash), hash));
  return row;
}

void checkAgainst(const std::map<uint64_t, const std::byte*>& expected, const Overlay& overlay) {
  CHECK(overlay.size() == expected.size());
  for (const auto& [key, row] : expected) CHECK(lookUp(overlay, key) == row);
  std::map<uint64_t, const std::byte*> seen;
  overlay.forEach([&](uint64_t key, const std::byte* row) { CHECK(seen.emplace(key, row).second); });
  CHECK(seen == expected);
}

/** Keys of a kind: random, counting up, in the upper bits alone, multiples. */
uint64_t keyOfKind(int kind, uint64_t index, std::mt19937_64& random) {
  switch (kind) {
    case 0:
      return random();
    case 1:
      return index;
    case 2:
      return index << 40;
    default:
      return UINT64_MAX - index * 4096;
  }
}

void checkKind(int kind, size_t count) {
  std::mt19937_64 random(static_cast<uint64_t>(kind) * 1000 + count);
  const std::vector<std::byte> rows(count + 1);
  std::map<uint64_t, const std::byte*> expected;
  // Exactly as many keys as were announced.
  std::map<uint64_t, bool> keys;
  for (uint64_t index = 0; keys.size() < count; ++index) keys[keyOfKind(kind, index, random)] = true;
  Overlay overlay(count, kSeed);
  for (const auto& [key, unused] : keys) {
    const std::byte* row = random() % 3 == 0 ? Overlay::deletedRow() : &rows[random() % rows.size()];
    overlay.set(key, row);
    expected[key] = row;
  }
  checkAgainst(expected, overlay);
  // Newer changes replace older ones, and take no room.
  for (auto& [key, row] : expected) {
    if (random() % 2 == 0) continue;
    row = row == Overlay::deletedRow() ? &rows[0] : Overlay::deletedRow();
    if (row == Overlay::deletedRow())
      overlay.erase(key);
    else
      overlay.set(key, row);
  }
  checkAgainst(expected, overlay);
  size_t passed = 0;
  constexpr size_t kProbes = 100'000;
  for (size_t i = 0; i < kProbes; ++i) {
    const uint64_t absent = random() | 1;
    if (expected.count(absent) > 0) continue;
    CHECK(lookUp(overlay, absent) == nullptr);
    const uint64_t hash = overlay.hash(absent);
    passed += Overlay::mayHold(*overlay.filterWord(hash), hash);
  }
  // A filter that lets everything through would only be slow: hold it to what it is there for.
  CHECK(passed < kProbes / 20);
}

}  // namespace

void testOverlay() {
  Overlay empty(0, kSeed);
  CHECK(empty.size() == 0);
  for (const uint64_t key : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) CHECK(lookUp(empty, key) == nullptr);
  empty.forEach([](uint64_t, const std::byte*) { CHECK(false); });

  const std::byte row{};
  Overlay few(2, kSeed);
  few.set(0, &row);
  CHECK(lookUp(few, 0) == &row && lookUp(few, UINT64_MAX) == nullptr);
  few.erase(UINT64_MAX);
  CHECK(lookUp(few, UINT64_MAX) == Overlay::deletedRow() && few.size() == 2);
  few.erase(0);
  few.set(UINT64_MAX, &row);
  CHECK(lookUp(few, 0) == Overlay::deletedRow() && lookUp(few, UINT64_MAX) == &row && few.size() == 2);

  for (int kind = 0; kind < 4; ++kind)
    for (const size_t count : {size_t{1}, size_t{5}, size_t{8}, size_t{100}, size_t{5000}})
      checkKind(kind, count);
}
