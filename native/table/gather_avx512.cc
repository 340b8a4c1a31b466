#include "gather_plan.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,prefer-vector-width=512")
#endif

namespace onnx_serving {
namespace {

struct Simd {
  static unsigned find(const std::byte* keys, uint64_t key) {
    return _mm512_cmpeq_epi64_mask(_mm512_load_si512(keys), _mm512_set1_epi64(static_cast<long long>(key)));
  }

  struct Scale {
    __m512 low;
    __m512 step;
  };
  template <RowType kType>
  static Scale scaleOf(const std::byte* row) {
    if constexpr (kType == RowType::kInt8) {
      float low;
      float high;
      __builtin_memcpy(&low, row, 4);
      __builtin_memcpy(&high, row + 4, 4);
      return {_mm512_set1_ps(low), _mm512_set1_ps((high - low) / 255.0f)};
    } else {
      return {_mm512_setzero_ps(), _mm512_setzero_ps()};
    }
  }

  /**
   * Sixteen elements from `at`, those outside of `mask` not read. The forms with a mask throughout: gcc 12
   * takes the others' undefined sources for uninitialised variables.
   */
  template <RowType kType>
  static __m512 sixteen(const std::byte* row, size_t at, const Scale& scale, __mmask16 mask) {
    if constexpr (kType == RowType::kF32) {
      return _mm512_maskz_loadu_ps(mask, row + 4 * at);
    } else if constexpr (kType == RowType::kF16) {
      return _mm512_maskz_cvtph_ps(mask, _mm256_maskz_loadu_epi16(mask, row + 2 * at));
    } else {
      const __m512i bytes = _mm512_maskz_cvtepu8_epi32(mask, _mm_maskz_loadu_epi8(mask, row + 8 + at));
      const __m512 steps = _mm512_maskz_cvtepi32_ps(mask, bytes);
      return _mm512_add_ps(scale.low, _mm512_mul_ps(steps, scale.step));
    }
  }

  template <RowType kType>
  static void copy(float* out, const std::byte* row, size_t dim) {
    const Scale scale = scaleOf<kType>(row);
    size_t at = 0;
    for (; at + 16 <= dim; at += 16) _mm512_storeu_ps(out + at, sixteen<kType>(row, at, scale, 0xffff));
    if (at < dim) {
      const auto mask = static_cast<__mmask16>((1u << (dim - at)) - 1);
      _mm512_mask_storeu_ps(out + at, mask, sixteen<kType>(row, at, scale, mask));
    }
  }

  template <RowType kType>
  static void add(float* out, const std::byte* row, size_t dim, float weight) {
    const Scale scale = scaleOf<kType>(row);
    const __m512 weights = _mm512_set1_ps(weight);
    for (size_t at = 0; at < dim; at += 16) {
      const auto mask = static_cast<__mmask16>(dim - at >= 16 ? 0xffffu : (1u << (dim - at)) - 1);
      const __m512 value = _mm512_mul_ps(sixteen<kType>(row, at, scale, mask), weights);
      _mm512_mask_storeu_ps(out + at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out + at), value));
    }
  }
};

}  // namespace
}  // namespace onnx_serving

#include "gather_loop.h"

namespace onnx_serving {

extern const GatherKernels kAvx512Kernels;
const GatherKernels kAvx512Kernels{"avx512", gatherRows};

}  // namespace onnx_serving

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
