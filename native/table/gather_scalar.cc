#include <bit>

#include "../float16.h"
#include "gather_plan.h"

namespace onnx_serving {
namespace {

/** Portable kernels; the others must give the same bits. */
struct Simd {
  /** Bit s is set when slot s holds the key. */
  static unsigned find(const std::byte* keys, uint64_t key) {
    unsigned found = 0;
    for (unsigned slot = 0; slot < BucketGrid::kBucketSlots; ++slot) {
      uint64_t at;
      __builtin_memcpy(&at, keys + 8 * slot, 8);
      found |= static_cast<unsigned>(at == key) << slot;
    }
    return found;
  }

  template <RowType kType>
  static float element(const std::byte* row, size_t i, float low, float step) {
    if constexpr (kType == RowType::kF32) {
      float value;
      __builtin_memcpy(&value, row + 4 * i, 4);
      return value;
    } else if constexpr (kType == RowType::kF16) {
      uint16_t value;
      __builtin_memcpy(&value, row + 2 * i, 2);
      return floatOfHalf(value);
    } else {
      return low + static_cast<float>(static_cast<uint8_t>(row[8 + i])) * step;
    }
  }

  template <RowType kType>
  static void scaleOf(const std::byte* row, float& low, float& step) {
    if constexpr (kType == RowType::kInt8) {
      float high;
      __builtin_memcpy(&low, row, 4);
      __builtin_memcpy(&high, row + 4, 4);
      step = (high - low) / 255.0f;
    }
  }

  template <RowType kType>
  static void copy(float* out, const std::byte* row, size_t dim) {
    float low = 0;
    float step = 0;
    scaleOf<kType>(row, low, step);
    for (size_t i = 0; i < dim; ++i) out[i] = element<kType>(row, i, low, step);
  }

  template <RowType kType>
  static void add(float* out, const std::byte* row, size_t dim, float weight) {
    float low = 0;
    float step = 0;
    scaleOf<kType>(row, low, step);
    for (size_t i = 0; i < dim; ++i) {
      const float value = element<kType>(row, i, low, step) * weight;
      out[i] += value;
    }
  }
};

}  // namespace
}  // namespace onnx_serving

#include "gather_loop.h"

namespace onnx_serving {

extern const GatherKernels kScalarKernels;
const GatherKernels kScalarKernels{"scalar", gatherRows};

}  // namespace onnx_serving
