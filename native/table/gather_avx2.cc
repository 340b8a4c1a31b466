#include "gather_plan.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "../float16.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c,bmi,bmi2")
#endif

namespace onnx_serving {
namespace {

struct Simd {
  static unsigned find(const std::byte* keys, uint64_t key) {
    const __m256i wanted = _mm256_set1_epi64x(static_cast<long long>(key));
    const auto* lines = reinterpret_cast<const __m256i*>(keys);
    const __m256i low = _mm256_cmpeq_epi64(wanted, _mm256_load_si256(lines));
    const __m256i high = _mm256_cmpeq_epi64(wanted, _mm256_load_si256(lines + 1));
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(low))) |
           static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(high))) << 4;
  }

  /** Low end and step of a quantised row. */
  struct Scale {
    float low = 0;
    float step = 0;
  };
  template <RowType kType>
  static Scale scaleOf(const std::byte* row) {
    Scale scale;
    if constexpr (kType == RowType::kInt8) {
      float high;
      __builtin_memcpy(&scale.low, row, 4);
      __builtin_memcpy(&high, row + 4, 4);
      scale.step = (high - scale.low) / 255.0f;
    }
    return scale;
  }

  template <RowType kType>
  static __m256 eight(const std::byte* row, size_t at, Scale scale) {
    if constexpr (kType == RowType::kF32) {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(row + 4 * at));
    } else if constexpr (kType == RowType::kF16) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * at)));
    } else {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 8 + at));
      const __m256 steps = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
      return _mm256_add_ps(_mm256_set1_ps(scale.low), _mm256_mul_ps(steps, _mm256_set1_ps(scale.step)));
    }
  }

  template <RowType kType>
  static float element(const std::byte* row, size_t at, Scale scale) {
    if constexpr (kType == RowType::kF32) {
      float value;
      __builtin_memcpy(&value, row + 4 * at, 4);
      return value;
    } else if constexpr (kType == RowType::kF16) {
      uint16_t value;
      __builtin_memcpy(&value, row + 2 * at, 2);
      return _cvtsh_ss(value);
    } else {
      return scale.low + static_cast<float>(static_cast<uint8_t>(row[8 + at])) * scale.step;
    }
  }

  template <RowType kType>
  static void copy(float* out, const std::byte* row, size_t dim) {
    const Scale scale = scaleOf<kType>(row);
    size_t at = 0;
    for (; at + 8 <= dim; at += 8) _mm256_storeu_ps(out + at, eight<kType>(row, at, scale));
    for (; at < dim; ++at) out[at] = element<kType>(row, at, scale);
  }

  template <RowType kType>
  static void add(float* out, const std::byte* row, size_t dim, float weight) {
    const Scale scale = scaleOf<kType>(row);
    const __m256 weights = _mm256_set1_ps(weight);
    size_t at = 0;
    for (; at + 8 <= dim; at += 8) {
      const __m256 value = _mm256_mul_ps(eight<kType>(row, at, scale), weights);
      _mm256_storeu_ps(out + at, _mm256_add_ps(_mm256_loadu_ps(out + at), value));
    }
    for (; at < dim; ++at) {
      const float value = element<kType>(row, at, scale) * weight;
      out[at] += value;
    }
  }
};

}  // namespace
}  // namespace onnx_serving

#include "gather_loop.h"

namespace onnx_serving {

extern const GatherKernels kAvx2Kernels;
const GatherKernels kAvx2Kernels{"avx2", gatherRows};

}  // namespace onnx_serving

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
