#include "overlay.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

namespace onnx_serving {

Overlay::Overlay(size_t keys, uint64_t hashSeed) : hashSeed_(hashSeed) {
  // At most 5 entries in 8 used: a key that is there is found in the first line, or the one behind it.
  const size_t entries = std::bit_ceil(std::max<size_t>(keys + keys * 3 / 5, 8));
  // A word of 64 bits for four keys.
  const size_t words = std::bit_ceil(std::max<size_t>(keys / 4, 1));
  std::optional<HugeMemory> entryMemory = HugeMemory::allocate(entries * sizeof(Entry));
  std::optional<HugeMemory> filterMemory = HugeMemory::allocate(words * sizeof(uint64_t));
  if (!entryMemory || !filterMemory) return;
  entryMemory_ = std::move(*entryMemory);
  filterMemory_ = std::move(*filterMemory);
  entries_ = reinterpret_cast<Entry*>(entryMemory_.data());
  filter_ = reinterpret_cast<uint64_t*>(filterMemory_.data());
  entryMask_ = entries - 1;
  filterWords_ = words;
}

void Overlay::set(uint64_t key, const std::byte* row) {
  const uint64_t h = hash(key);
  filter_[scaleHash(h, filterWords_)] |= bitsOf(h);
  for (size_t at = scaleHash(h, entryMask_ + 1);; at = (at + 1) & entryMask_) {
    Entry& entry = entries_[at];
    if (entry.row == nullptr) {
      entry.key = key;
      ++size_;
    } else if (entry.key != key) {
      continue;
    }
    entry.row = row;
    return;
  }
}

}  // namespace onnx_serving
