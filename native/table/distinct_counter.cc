#include "distinct_counter.h"

#include <algorithm>
#include <bit>

#include "key_hash.h"

namespace onnx_serving {

DistinctCounter::DistinctCounter(size_t mostKeys)
    : places_(std::bit_ceil(std::max<size_t>(2 * mostKeys, 2))),
      shift_(static_cast<unsigned>(64 - std::countr_zero(places_.size()))) {}

void DistinctCounter::add(uint64_t key) {
  if (key == 0) {
    sawZero_ = true;
    return;
  }
  // A seed of its own: the keys of a partition have the upper bits of the shard's hash in common.
  size_t at = hashKey(key, 0x5851f42d4c957f2du) * 0x9e3779b97f4a7c15u >> shift_;
  while (places_[at] != 0) {
    if (places_[at] == key) return;
    at = (at + 1) & (places_.size() - 1);
  }
  places_[at] = key;
  ++count_;
}

}  // namespace onnx_serving
