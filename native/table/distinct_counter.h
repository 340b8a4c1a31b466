#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace onnx_serving {

/** Counts how many different keys it was shown, exactly, in 16 to 32 bytes a key. */
class DistinctCounter {
 public:
  /** @param mostKeys keys that will be shown at most */
  explicit DistinctCounter(size_t mostKeys);

  void add(uint64_t key);
  size_t count() const { return count_ + (sawZero_ ? 1 : 0); }

 private:
  /** 0 for an empty place; the key 0 is counted beside. */
  std::vector<uint64_t> places_;
  unsigned shift_;
  size_t count_ = 0;
  bool sawZero_ = false;
};

}  // namespace onnx_serving
