#include "decimal.h"

#include <charconv>
#include <cmath>
#include <system_error>
#ifndef __cpp_lib_to_chars
#include <locale.h>
#include <stdlib.h>

#include <string>
#endif

namespace onnx_serving::decimal_detail {
namespace {

constexpr uint64_t kPow5[] = {1,
                              5,
                              25,
                              125,
                              625,
                              3125,
                              15625,
                              78125,
                              390625,
                              1953125,
                              9765625,
                              48828125,
                              244140625,
                              1220703125,
                              6103515625,
                              30517578125,
                              152587890625,
                              762939453125,
                              3814697265625,
                              19073486328125,
                              95367431640625,
                              476837158203125,
                              2384185791015625,
                              11920928955078125,
                              59604644775390625,
                              298023223876953125,
                              1490116119384765625,
                              7450580596923828125};

/** Decimal exponent of a JSON number's first significant digit, saturated; only its sign matters to the
 * caller. */
int64_t magnitude(const uint8_t* at, const uint8_t* last) {
  if (*at == '-') ++at;
  int64_t place = 0;
  bool isSignificant = false;
  bool isFraction = false;
  for (; at < last && (*at | 0x20) != 'e'; ++at) {
    if (*at == '.') {
      isFraction = true;
    } else if (isSignificant || *at != '0') {
      isSignificant = true;
      if (!isFraction) ++place;
    } else if (isFraction) {
      --place;
    }
  }
  if (at == last) return place;
  ++at;
  const bool isNegative = *at == '-';
  if (*at == '-' || *at == '+') ++at;
  int64_t exponent = 0;
  for (; at < last; ++at) {
    if (exponent < (int64_t{1} << 40)) exponent = exponent * 10 + (*at - '0');
  }
  return place + (isNegative ? -exponent : exponent);
}

#ifdef __cpp_lib_to_chars
template <class T>
bool convert(const char* first, const char* last, T& value) {
  return std::from_chars(first, last, value).ec == std::errc();
}
#else
// Standard libraries without from_chars for floating point: the C functions, in a locale whose point is a
// point.
template <class T>
bool convert(const char* first, const char* last, T& value) {
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  const std::string text(first, last);
  if constexpr (sizeof(T) == sizeof(float)) {
    value = strtof_l(text.c_str(), nullptr, plain);
  } else {
    value = strtod_l(text.c_str(), nullptr, plain);
  }
  return true;
}
#endif

}  // namespace

template <class T>
DecimalOutcome parseSlowly(const uint8_t* first, const uint8_t* last, T& value) {
  if (!convert(reinterpret_cast<const char*>(first), reinterpret_cast<const char*>(last), value)) {
    // Out of range: too large is refused, too small is zero, as in JSON.parse.
    if (magnitude(first, last) > 0) return DecimalOutcome::kOverflow;
    value = *first == '-' ? T{-0.0} : T{0};
  }
  return std::isinf(value) ? DecimalOutcome::kOverflow : DecimalOutcome::kOk;
}

template DecimalOutcome parseSlowly(const uint8_t*, const uint8_t*, float&);
template DecimalOutcome parseSlowly(const uint8_t*, const uint8_t*, double&);

double divideByPow10(uint64_t mantissa, int exponent) {
  __extension__ using Wide = unsigned __int128;
  const uint64_t pow5 = kPow5[exponent];
  const int mantissaShift = std::countl_zero(mantissa);
  const int divisorShift = std::countl_zero(pow5);
  const uint64_t divisor = pow5 << divisorShift;
  // Both have their top bit set, so the quotient has 63 or 64 bits: more than a double keeps. A remainder is
  // remembered in the last bit, and the conversion rounds once.
  const Wide dividend = static_cast<Wide>(mantissa << mantissaShift) << 63;
  auto quotient = static_cast<uint64_t>(dividend / divisor);
  if (static_cast<Wide>(quotient) * divisor != dividend) quotient |= 1;
  const int scale = divisorShift - mantissaShift - 63 - exponent;
  return static_cast<double>(quotient) * std::bit_cast<double>(static_cast<uint64_t>(1023 + scale) << 52);
}

}  // namespace onnx_serving::decimal_detail
