#include "overlay.h"

#include <algorithm>
#include <bit>

namespace onnx_serving {

Overlay::Overlay(size_t keys)
    // At most 5 entries in 8 used: a key that is there is found in the first line, or the one behind it.
    : entries_(std::bit_ceil(std::max<size_t>(keys + keys * 3 / 5, 8))),
      // A word of 64 bits for four keys.
      filter_(std::bit_ceil(std::max<size_t>(keys / 4, 1))),
      entryMask_(entries_.size() - 1),
      filterMask_(filter_.size() - 1) {}

void Overlay::set(uint64_t key, const std::byte* row) {
  const uint64_t h = hash(key);
  filter_[h & filterMask_] |= bitsOf(h);
  for (size_t at = (h >> 16) & entryMask_;; at = (at + 1) & entryMask_) {
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
