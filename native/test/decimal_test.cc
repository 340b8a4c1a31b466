#include "../decimal.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

template <class T>
DecimalOutcome parse(std::string_view text, T& value, size_t* used = nullptr) {
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  const uint8_t* at = bytes.data();
  const DecimalOutcome outcome = parseDecimal(at, bytes.data() + bytes.size(), value);
  if (used != nullptr) *used = static_cast<size_t>(at - bytes.data());
  return outcome;
}

template <class T>
void compareWithLibrary(const std::string& text) {
  T ours;
  T theirs;
  size_t used;
  const DecimalOutcome outcome = parse(text, ours, &used);
  const bool isInRange = std::from_chars(text.data(), text.data() + text.size(), theirs).ec == std::errc();
  if (!isInRange) {
    CHECK(outcome == DecimalOutcome::kOverflow || ours == 0);
    return;
  }
  CHECK(outcome == DecimalOutcome::kOk);
  CHECK(used == text.size());
  CHECK(std::memcmp(&ours, &theirs, sizeof ours) == 0);
}

void compare(const std::string& text) {
  compareWithLibrary<float>(text);
  compareWithLibrary<double>(text);
}

std::string digitString(std::mt19937_64& random, size_t length) {
  std::string digits;
  while (digits.size() < length) digits += static_cast<char>('0' + random() % 10);
  return digits;
}

std::string randomNumber(std::mt19937_64& random) {
  std::string text = random() % 2 == 0 ? "-" : "";
  if (random() % 3 == 0) {
    text += '0';
  } else {
    text += static_cast<char>('1' + random() % 9);
    text += digitString(random, random() % 12);
  }
  if (random() % 4 != 0)
    text +=
        '.' + std::string(random() % 3 == 0 ? random() % 9 : 0, '0') + digitString(random, 1 + random() % 22);
  if (random() % 3 == 0)
    text += (random() % 2 == 0 ? "e-" : "E+") + std::to_string(random() % (random() % 4 == 0 ? 400 : 30));
  return text;
}

}  // namespace

void testDecimal() {
  std::mt19937_64 random(2);
  char text[128];
  for (int round = 0; round < 300000; ++round) compare(randomNumber(random));
  // Values halfway between floats, written exactly and one unit beside: the double is the midpoint itself.
  for (int round = 0; round < 50000; ++round) {
    const auto low = std::bit_cast<float>(static_cast<uint32_t>(random() % 0x7F000000));
    const double middle =
        (static_cast<double>(low) + static_cast<double>(std::nextafterf(low, INFINITY))) / 2;
    for (const int digits : {16, 17, 19, 25, 60}) {
      std::snprintf(text, sizeof text, "%.*e", digits, middle);
      compare(text);
      std::string beside = text;
      beside[static_cast<size_t>(digits)] = static_cast<char>('0' + random() % 10);
      compare(beside);
      if (middle > 1e-10 && middle < 1e10) {
        std::snprintf(text, sizeof text, "%.*f", digits, middle);
        compare(text);
      }
    }
  }
  // Any double, in the digits that read back.
  for (int round = 0; round < 100000; ++round) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    compare(std::string(text, std::to_chars(text, text + sizeof text, value).ptr));
    const double unit = std::ldexp(static_cast<double>(random() >> 11), -53);
    compare(std::string(text, std::to_chars(text, text + sizeof text, unit).ptr));
  }
  for (const char* edge : {"0",
                           "-0",
                           "0.0",
                           "0e999999999999999999999",
                           "9007199254740993",
                           "18446744073709551615",
                           "18446744073709551616",
                           "1e22",
                           "1e23",
                           "123456789012345678901234567890e-10",
                           "5e-324",
                           "2e-324",
                           "2.4703282292062327e-324",
                           "1e-45",
                           "7e-46",
                           "1.1754943508222875e-38",
                           "3.4028235677973366e38",
                           "3.4028235677973362e38",
                           "1.7976931348623157e308",
                           "1.7976931348623159e308",
                           "1e400",
                           "-1e400",
                           "1e-400",
                           "1e-999999999999999999999",
                           "0.00000000000000000000001"}) {
    compare(edge);
  }
  for (const char* bad :
       {"", "-", "+1", ".5", "1.", "1.e5", "01", "-01", "1e", "1e+", "e5", "--1", "NaN", "1.-"}) {
    float value;
    CHECK(parse(bad, value) == DecimalOutcome::kMalformed);
  }
  double value;
  size_t used;
  CHECK(parse("12.5abc", value, &used) == DecimalOutcome::kOk && used == 4 && value == 12.5);
}
