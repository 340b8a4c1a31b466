#pragma once

#include <cstdint>
#include <limits>

namespace onnx_serving {

enum class KeyOutcome : uint8_t { kOk, kMalformed, kOverflow };

/** Reads the decimal digits of a key, 0 to 2^64 - 1, at `at` and moves `at` behind them. No sign, no blanks.
 */
inline KeyOutcome parseKey(const uint8_t*& at, const uint8_t* end, uint64_t& key) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const uint8_t* p = at;
  uint64_t value = 0;
  for (; p < end; ++p) {
    const auto digit = static_cast<uint8_t>(*p - '0');
    if (digit > 9) break;
    if (value > kMax / 10 || (value == kMax / 10 && digit > kMax % 10)) return KeyOutcome::kOverflow;
    value = value * 10 + digit;
  }
  if (p == at) return KeyOutcome::kMalformed;
  at = p;
  key = value;
  return KeyOutcome::kOk;
}

}  // namespace onnx_serving
