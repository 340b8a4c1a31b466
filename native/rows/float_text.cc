#include "float_text.h"

#include <limits>
#include <string>
#include <string_view>

namespace onnx_serving {
namespace {

using decimal_detail::isDigit;

/** Moves `at` behind a word, in any case; false when another one stands there. */
bool takeWord(const uint8_t*& at, const uint8_t* end, std::string_view word) {
  if (static_cast<size_t>(end - at) < word.size()) return false;
  for (size_t i = 0; i < word.size(); ++i) {
    if ((at[i] | 0x20) != static_cast<uint8_t>(word[i])) return false;
  }
  at += word.size();
  return true;
}

/** Appends the digits at `at`, leading zeros left out, and returns how many there were with them. */
size_t takeDigits(const uint8_t*& at, const uint8_t* end, bool isWhole, std::string& text) {
  const uint8_t* const first = at;
  if (isWhole) {
    while (at < end && *at == '0') ++at;
  }
  const uint8_t* const significant = at;
  while (at < end && isDigit(*at)) ++at;
  text.append(significant, at);
  return static_cast<size_t>(at - first);
}

}  // namespace

DecimalOutcome parseUnusualFloat(const uint8_t*& at, const uint8_t* end, float& value) {
  const uint8_t* p = at;
  const bool isNegative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) ++p;
  if (takeWord(p, end, "nan")) {
    value = std::numeric_limits<float>::quiet_NaN();
    at = p;
    return DecimalOutcome::kOk;
  }
  if (takeWord(p, end, "inf")) {
    (void)takeWord(p, end, "inity");
    value = std::numeric_limits<float>::infinity() * (isNegative ? -1.0F : 1.0F);
    at = p;
    return DecimalOutcome::kOk;
  }

  // The same number as JSON writes it.
  std::string json = isNegative ? "-" : "";
  const size_t signBytes = json.size();
  size_t digits = takeDigits(p, end, true, json);
  if (json.size() == signBytes) json += '0';
  if (p < end && *p == '.') {
    ++p;
    json += '.';
    const size_t fraction = takeDigits(p, end, false, json);
    if (fraction == 0) json += '0';
    digits += fraction;
  }
  if (digits == 0) return DecimalOutcome::kMalformed;
  if (p < end && (*p | 0x20) == 'e') {
    const uint8_t* exponent = p + 1;
    if (exponent < end && (*exponent == '-' || *exponent == '+')) ++exponent;
    if (exponent == end || !isDigit(*exponent)) return DecimalOutcome::kMalformed;
    while (exponent < end && isDigit(*exponent)) ++exponent;
    json.append(p, exponent);
    p = exponent;
  }
  const auto* first = reinterpret_cast<const uint8_t*>(json.data());
  const DecimalOutcome outcome = parseDecimal(first, first + json.size(), value);
  if (outcome == DecimalOutcome::kOk) at = p;
  return outcome;
}

}  // namespace onnx_serving
