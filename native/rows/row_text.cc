#include "row_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <span>
#include <string_view>

#include "../byte_scan.h"
#include "../json_tensor.h"

namespace onnx_serving {
namespace {

/** False when the value is no row of floats. */
bool printFloats(std::span<const std::byte> value, std::string& out) {
  constexpr size_t kRun = 256;
  std::array<float, kRun> run;
  std::array<char, kRun * kMaxElementText + 2> text;
  if (value.size() % sizeof(float) != 0) return false;
  while (!value.empty()) {
    const size_t bytes = std::min(value.size(), sizeof run);
    // The values of a batch lie at any address.
    std::memcpy(run.data(), value.data(), bytes);
    value = value.subspan(bytes);
    char* const end = printTensorTo(text.data(), Datatype::kFp32, run.data(), bytes / sizeof(float));
    // The brackets stay here; the last one becomes the space before the next run.
    char* const last = end - 1;
    std::replace(text.data(), last, ',', ' ');
    if (!value.empty()) *last = ' ';
    out.append(text.data() + 1, value.empty() ? last : end);
  }
  return true;
}

bool printText(std::span<const std::byte> value, std::string& out) {
  const std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
  if (text.find('\n') != std::string_view::npos || text.ends_with('\r')) return false;
  out += text;
  return true;
}

bool printHex(std::span<const std::byte> value, std::string& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const std::byte byte : value) {
    const auto bits = std::to_integer<uint8_t>(byte);
    out += kDigits[bits >> 4];
    out += kDigits[bits & 15];
  }
  return true;
}

bool printValue(std::span<const std::byte> value, ValueText form, std::string& out) {
  switch (form) {
    case ValueText::kFloats:
      return printFloats(value, out);
    case ValueText::kText:
      return printText(value, out);
    case ValueText::kHex:
      break;
  }
  return printHex(value, out);
}

bool isPrintable(std::span<const std::byte> value) {
  const auto* const first = reinterpret_cast<const uint8_t*>(value.data());
  const uint8_t* const end = first + value.size();
  bool isAscii = true;
  return std::all_of(first, end, [](uint8_t c) { return (c >= 0x20 && c != 0x7F) || c == '\t'; }) &&
         findInvalidUtf8(first, end, isAscii) == end;
}

Status unprintable(uint64_t row, uint64_t key, size_t bytes, ValueText form) {
  const std::string problem =
      form == ValueText::kFloats
          ? std::to_string(bytes) + " bytes, expected a multiple of 4 to print floats"
          : "a line feed, or a carriage return at its end, which does not fit a line of text";
  return Status(code::kBadInputFile, "the value of row " + std::to_string(row) + " with key " +
                                         std::to_string(key) + " has " + problem + "; print hex instead");
}

}  // namespace

Status printRows(const RowBatch& rows, ValueText form, uint64_t firstRow, std::string& out) {
  for (size_t row = 0; row < rows.rows(); ++row) {
    std::array<char, 20> digits;
    const size_t lineStart = out.size();
    out.append(digits.data(), std::to_chars(digits.begin(), digits.end(), rows.keys[row]).ptr);
    out += ':';
    const std::span<const std::byte> value = rows.value(row);
    if (!printValue(value, form, out)) {
      out.resize(lineStart);
      return unprintable(firstRow + row, rows.keys[row], value.size(), form);
    }
    out += '\n';
  }
  return {};
}

ValueText guessValueText(const RowBatch& rows) {
  bool areText = !rows.bytes.empty();
  bool areFloats = true;
  for (size_t row = 0; row < rows.rows(); ++row) {
    const std::span<const std::byte> value = rows.value(row);
    areText = areText && isPrintable(value);
    areFloats = areFloats && value.size() % sizeof(float) == 0;
  }
  return areText ? ValueText::kText : areFloats ? ValueText::kFloats : ValueText::kHex;
}

}  // namespace onnx_serving
