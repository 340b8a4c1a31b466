#include "../byte_scan.h"

#include <random>
#include <string_view>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

bool isUtf8(std::string_view text) {
  bool isAscii = true;
  const auto* begin = reinterpret_cast<const uint8_t*>(text.data());
  return findInvalidUtf8(begin, begin + text.size(), isAscii) == begin + text.size();
}

}  // namespace

void testByteScan() {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    // Exactly as long as needed, so that the address sanitizer sees a read beyond the end.
    std::vector<uint8_t> bytes(random() % 70);
    const bool isAnything = random() % 2 == 0;
    for (uint8_t& byte : bytes)
      byte = isAnything ? static_cast<uint8_t>(random()) : "0123456789.,- "[random() % 14];
    if (!bytes.empty() && random() % 2 == 0) bytes[random() % bytes.size()] = "[]{}\"\\"[random() % 6];
    const uint8_t* const begin = bytes.data();
    const uint8_t* const end = begin + bytes.size();
    CHECK(findStructural(begin, end) == scalar::findStructural(begin, end));
    CHECK(findStringBreak(begin, end) == scalar::findStringBreak(begin, end));
  }

  CHECK(isUtf8("plain, long enough for a word"));
  CHECK(isUtf8("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xED\x9F\xBF \xF4\x8F\xBF\xBF"));
  for (const std::string_view bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xFF", "\xC3 "}) {
    CHECK(!isUtf8(bad));
  }
}
