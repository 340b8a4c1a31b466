#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace onnx_serving {

enum class DecimalOutcome : uint8_t { kOk, kMalformed, kOverflow };

/**
 * Reads a JSON number at `at` and moves `at` behind it. What follows is the caller's business.
 *
 * The result is the double or float nearest to the decimal (ties to even), as JSON.parse gives for double. A
 * float is rounded once: where Math.fround(JSON.parse(text)) rounds twice, the two may differ in the last
 * bit, about once in 2^29 random decimals of 16 and more digits, never for digits that printTensor or a
 * shortest-digits printer of floats wrote.
 */
template <class T>
DecimalOutcome parseDecimal(const uint8_t*& at, const uint8_t* end, T& value);

namespace decimal_detail {

inline constexpr double kPow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
inline constexpr int kMaxExactPow10 = 22;
inline constexpr int kMaxExactPow5 = 27;
inline constexpr uint64_t kMaxExactDouble = uint64_t{1} << 53;

/** The rare forms: many digits, large exponents, subnormals, and floats next to a rounding boundary. */
template <class T>
DecimalOutcome parseSlowly(const uint8_t* first, const uint8_t* last, T& value);

/** mantissa / 10^exponent, correctly rounded; 1 <= exponent <= kMaxExactPow5, mantissa > 0. */
double divideByPow10(uint64_t mantissa, int exponent);

inline bool isDigit(uint8_t c) { return static_cast<uint8_t>(c - '0') < 10; }

/** Appends the digits at `at` to `mantissa` (modulo 2^64) and moves behind them. */
inline void readDigits(const uint8_t*& at, const uint8_t* end, uint64_t& mantissa) {
  if constexpr (std::endian::native == std::endian::little) {
    static constexpr uint64_t kScale[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - at >= 8) {
      uint64_t word;
      std::memcpy(&word, at, sizeof word);
      // A byte of `other` is zero where the byte of the text is a digit, up to the first that is not.
      const uint64_t other =
          ((word & 0xF0F0F0F0F0F0F0F0) | (((word + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) >> 4)) ^
          0x3333333333333333;
      const int digits = other == 0 ? 8 : std::countr_zero(other) / 8;
      if (digits == 0) return;
      uint64_t value = (word - 0x3030303030303030) << (64 - 8 * digits);
      value = value * 10 + (value >> 8);
      value = (((value & 0x000000FF000000FF) * 0x000F424000000064) +
               (((value >> 16) & 0x000000FF000000FF) * 0x0000271000000001)) >>
              32;
      mantissa = mantissa * kScale[digits] + (value & 0xFFFFFFFF);
      at += digits;
      if (digits < 8) return;
    }
  }
  for (; at < end && isDigit(*at); ++at) mantissa = mantissa * 10 + static_cast<uint64_t>(*at - '0');
}

inline bool toNearest(uint64_t mantissa, int64_t exponent, double& value) {
  if (mantissa <= kMaxExactDouble && exponent >= -kMaxExactPow10 && exponent <= kMaxExactPow10) {
    // Both operands are exact, so the one operation rounds correctly (Clinger 1990).
    const auto exact = static_cast<double>(mantissa);
    value = exponent < 0 ? exact / kPow10[-exponent] : exact * kPow10[exponent];
    return true;
  }
  if (exponent < 0 && exponent >= -kMaxExactPow5) {
    value = divideByPow10(mantissa, static_cast<int>(-exponent));
    return true;
  }
  return false;
}

inline bool toNearest(uint64_t mantissa, int64_t exponent, float& value) {
  if (exponent < -kMaxExactPow10 || exponent > kMaxExactPow10) return false;
  const auto rounded = static_cast<double>(mantissa);
  const double close = exponent < 0 ? rounded / kPow10[-exponent] : rounded * kPow10[exponent];
  // `close` is rounded twice, so it lies within 2 units of the true value. Floats change only at midpoints,
  // which as doubles end in 1 and 28 zeros: 4 units away from those the conversion gives the nearest float.
  const uint64_t tail = std::bit_cast<uint64_t>(close) & 0x1FFFFFFF;
  const uint64_t fromMidpoint = tail > 0x10000000 ? tail - 0x10000000 : 0x10000000 - tail;
  if (fromMidpoint <= 4 || close < 0x1p-126 || close > 0x1.fffffep127) return false;
  value = static_cast<float>(close);
  return true;
}

}  // namespace decimal_detail

template <class T>
inline DecimalOutcome parseDecimal(const uint8_t*& at, const uint8_t* end, T& value) {
  using namespace decimal_detail;
  const uint8_t* const first = at;
  const uint8_t* p = at;
  const bool isNegative = p < end && *p == '-';
  if (isNegative) ++p;

  const uint8_t* const firstDigit = p;
  uint64_t mantissa = 0;
  if (p == end || !isDigit(*p)) return DecimalOutcome::kMalformed;
  if (*p == '0') {
    ++p;
    if (p < end && isDigit(*p)) return DecimalOutcome::kMalformed;
  } else {
    // Usually one or two digits, for which the wide reader does not pay.
    do {
      mantissa = mantissa * 10 + static_cast<uint64_t>(*p - '0');
      ++p;
    } while (p < end && isDigit(*p));
  }
  int64_t digits = p - firstDigit;
  int64_t exponent = 0;
  if (p < end && *p == '.') {
    const uint8_t* const fraction = ++p;
    readDigits(p, end, mantissa);
    exponent = fraction - p;
    if (exponent == 0) return DecimalOutcome::kMalformed;
    digits -= exponent;
  }
  if (p < end && (*p | 0x20) == 'e') {
    ++p;
    const bool isNegativeExponent = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) ++p;
    if (p == end || !isDigit(*p)) return DecimalOutcome::kMalformed;
    int64_t written = 0;
    for (; p < end && isDigit(*p); ++p) {
      if (written < (int64_t{1} << 40)) written = written * 10 + (*p - '0');
    }
    exponent += isNegativeExponent ? -written : written;
  }
  at = p;

  if (digits > 19) {
    // Leading zeros do not count towards the 19 digits that a mantissa holds.
    for (const uint8_t* q = firstDigit; digits > 19 && q < p && (*q == '0' || *q == '.'); ++q) {
      if (*q == '0') --digits;
    }
    if (digits > 19) return parseSlowly(first, p, value);
  }
  if (mantissa == 0) {
    value = isNegative ? T{-0.0} : T{0};
    return DecimalOutcome::kOk;
  }
  if (!toNearest(mantissa, exponent, value)) return parseSlowly(first, p, value);
  if (isNegative) value = -value;
  return DecimalOutcome::kOk;
}

}  // namespace onnx_serving
