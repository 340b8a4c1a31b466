#include "value_text.h"

#include <algorithm>
#include <array>

#include "float_text.h"
#include "input_error.h"

namespace onnx_serving {
namespace {

bool isBlank(uint8_t c) { return c == ' ' || c == '\t'; }

const uint8_t* skipBlanks(const uint8_t* at, const uint8_t* end) {
  while (at < end && isBlank(*at)) ++at;
  return at;
}

/** From `at` to the next separator. */
std::string wordAt(const uint8_t* at, const uint8_t* end) {
  const uint8_t* last = at;
  while (last < end && !isBlank(*last) && *last != ',') ++last;
  return excerpt({at, last});
}

std::optional<TextFault> appendFloats(std::span<const uint8_t> text, std::vector<std::byte>& out) {
  const uint8_t* const first = text.data();
  const uint8_t* const end = first + text.size();
  std::array<float, 64> run;
  size_t count = 0;
  const auto flush = [&] {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(run.data(), count));
    out.insert(out.end(), bytes.begin(), bytes.end());
    count = 0;
  };
  const auto fault = [&](const uint8_t* at, std::string problem) {
    return TextFault{static_cast<size_t>(at - first), std::move(problem)};
  };
  const uint8_t* at = skipBlanks(first, end);
  while (at < end) {
    const uint8_t* const number = at;
    const DecimalOutcome outcome = parseFloatText(at, end, run[count]);
    if (outcome == DecimalOutcome::kOverflow) {
      return fault(number, wordAt(number, end) + " is too large for a 32-bit float");
    }
    const bool isWord = at == end || isBlank(*at) || *at == ',';
    if (outcome != DecimalOutcome::kOk || !isWord) {
      return fault(number, "expected a number, found " + wordAt(number, end));
    }
    if (++count == run.size()) flush();
    at = skipBlanks(at, end);
    if (at == end || *at != ',') continue;
    at = skipBlanks(at + 1, end);
    if (at == end) return fault(at, "expected a number behind the last comma, found the end");
  }
  flush();
  return std::nullopt;
}

constexpr uint8_t kNoDigit = 0xFF;

/** The value of each hexadecimal digit. */
constexpr std::array<uint8_t, 256> kHexDigits = [] {
  std::array<uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  for (uint8_t i = 0; i < 10; ++i) digits[static_cast<size_t>('0' + i)] = i;
  for (uint8_t i = 0; i < 6; ++i) {
    digits[static_cast<size_t>('a' + i)] = digits[static_cast<size_t>('A' + i)] =
        static_cast<uint8_t>(10 + i);
  }
  return digits;
}();

std::optional<TextFault> appendHex(std::span<const uint8_t> text, std::vector<std::byte>& out) {
  const auto bad =
      std::find_if(text.begin(), text.end(), [](uint8_t c) { return kHexDigits[c] == kNoDigit; });
  if (bad != text.end()) {
    return TextFault{static_cast<size_t>(bad - text.begin()),
                     "expected hexadecimal digits, found " + excerpt({bad, text.end()})};
  }
  if (text.size() % 2 != 0) {
    return TextFault{text.size() - 1,
                     "expected an even number of hexadecimal digits, found " + std::to_string(text.size())};
  }
  const size_t before = out.size();
  out.resize(before + text.size() / 2);
  std::byte* to = out.data() + before;
  for (size_t i = 0; i < text.size(); i += 2) {
    *to++ = static_cast<std::byte>(kHexDigits[text[i]] << 4 | kHexDigits[text[i + 1]]);
  }
  return std::nullopt;
}

}  // namespace

std::optional<TextFault> appendValue(ValueText form, std::span<const uint8_t> text,
                                     std::vector<std::byte>& out) {
  switch (form) {
    case ValueText::kFloats:
      return appendFloats(text, out);
    case ValueText::kHex:
      return appendHex(text, out);
    case ValueText::kText:
      break;
  }
  const std::span<const std::byte> bytes = std::as_bytes(text);
  out.insert(out.end(), bytes.begin(), bytes.end());
  return std::nullopt;
}

}  // namespace onnx_serving
