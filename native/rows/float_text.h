#pragma once

#include <cstdint>

#include "../decimal.h"

namespace onnx_serving {

/** The forms of `parseFloatText` that are no JSON numbers. */
DecimalOutcome parseUnusualFloat(const uint8_t*& at, const uint8_t* end, float& value);

/**
 * Reads a number at `at` and moves `at` behind it; what follows is the caller's business.
 *
 * Takes JSON numbers, and what other programs print: a plus sign, leading zeros, no digits on one side of the
 * point, and, in any case, nan, inf and infinity. The nearest float, rounded once; kOverflow for finite
 * decimals beyond.
 */
inline DecimalOutcome parseFloatText(const uint8_t*& at, const uint8_t* end, float& value) {
  const DecimalOutcome outcome = parseDecimal(at, end, value);
  return outcome == DecimalOutcome::kMalformed ? parseUnusualFloat(at, end, value) : outcome;
}

}  // namespace onnx_serving
