#include "byte_scan.h"

#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace onnx_serving {
namespace {

// `|0x20` folds the square brackets onto the curly ones.
bool isStructural(uint8_t c) { return (c | 0x20) == '{' || (c | 0x20) == '}' || c == '"'; }

bool isStringBreak(uint8_t c) { return c == '"' || c == '\\' || c < 0x20 || c > 0x7F; }

#ifdef __SSE2__

// SSE2 belongs to every x86-64, so nothing needs to be dispatched at run time.
template <class Match>
const uint8_t* findBlock(const uint8_t* at, const uint8_t* end, Match match, bool& isFound) {
  for (; end - at >= 16; at += 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(match(block)));
    if (mask != 0) {
      isFound = true;
      return at + std::countr_zero(mask);
    }
  }
  return at;
}

#endif

/** Length of the UTF-8 sequence at `at`, or 0 when it is not valid. */
size_t utf8SequenceBytes(const uint8_t* at, const uint8_t* end) {
  const uint8_t lead = *at;
  const size_t bytes = lead < 0x80   ? 1
                       : lead < 0xC2 ? 0
                       : lead < 0xE0 ? 2
                       : lead < 0xF0 ? 3
                       : lead < 0xF5 ? 4
                                     : 0;
  if (bytes == 0 || static_cast<size_t>(end - at) < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((at[i] & 0xC0) != 0x80) return 0;
  }
  const bool isOverlong = (lead == 0xE0 && at[1] < 0xA0) || (lead == 0xF0 && at[1] < 0x90);
  const bool isSurrogate = lead == 0xED && at[1] > 0x9F;
  const bool isTooLarge = lead == 0xF4 && at[1] > 0x8F;
  return isOverlong || isSurrogate || isTooLarge ? 0 : bytes;
}

}  // namespace

const uint8_t* scalar::findStructural(const uint8_t* at, const uint8_t* end) {
  while (at < end && !isStructural(*at)) ++at;
  return at;
}

const uint8_t* scalar::findStringBreak(const uint8_t* at, const uint8_t* end) {
  while (at < end && !isStringBreak(*at)) ++at;
  return at;
}

const uint8_t* findStructural(const uint8_t* at, const uint8_t* end) {
#ifdef __SSE2__
  bool isFound = false;
  at = findBlock(
      at, end,
      [](__m128i block) {
        const __m128i folded = _mm_or_si128(block, _mm_set1_epi8(0x20));
        const __m128i brackets = _mm_or_si128(_mm_cmpeq_epi8(folded, _mm_set1_epi8('{')),
                                              _mm_cmpeq_epi8(folded, _mm_set1_epi8('}')));
        return _mm_or_si128(brackets, _mm_cmpeq_epi8(block, _mm_set1_epi8('"')));
      },
      isFound);
  if (isFound) return at;
#endif
  return scalar::findStructural(at, end);
}

const uint8_t* findStringBreak(const uint8_t* at, const uint8_t* end) {
#ifdef __SSE2__
  bool isFound = false;
  at = findBlock(
      at, end,
      [](__m128i block) {
        // Signed comparison: bytes above 0x7F are negative, so they are below 0x20 too.
        const __m128i outside = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
        const __m128i marks = _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')),
                                           _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
        return _mm_or_si128(outside, marks);
      },
      isFound);
  if (isFound) return at;
#endif
  return scalar::findStringBreak(at, end);
}

const uint8_t* findInvalidUtf8(const uint8_t* at, const uint8_t* end, bool& isAscii) {
  while (at < end) {
    if (end - at >= 8) {
      uint64_t word;
      std::memcpy(&word, at, sizeof word);
      if ((word & 0x8080808080808080) == 0) {
        at += 8;
        continue;
      }
    }
    if (*at < 0x80) {
      ++at;
      continue;
    }
    isAscii = false;
    const size_t bytes = utf8SequenceBytes(at, end);
    if (bytes == 0) return at;
    at += bytes;
  }
  return end;
}

}  // namespace onnx_serving
