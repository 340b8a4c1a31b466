#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "../rows/row_source.h"
#include "../rows/row_text.h"

using namespace onnx_serving;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

RowFormat formatOf(uint8_t choices, uint8_t more) {
  RowFormat format;
  format.format = static_cast<InputFormat>(choices & 3);
  format.innerLengths = static_cast<InnerLengths>((choices >> 2) % 3);
  format.values = static_cast<ValueText>((choices >> 2) % 3);
  format.header = static_cast<HeaderLine>((choices >> 2) % 3);
  format.delimiter = ",;\t "[(choices >> 4) & 3];
  format.rawBytes = (choices & 0x40) != 0;
  const char* const columns[] = {"", "1", "2", "id", "3", "99999999999999999999", "0", "a"};
  format.keyColumn = columns[more & 7];
  format.firstKey = (choices & 0x80) != 0 ? UINT64_MAX - 2 : 0;
  return format;
}

/** Appends the rows of a range; false when they end in an error. */
bool readAll(std::span<const std::byte> file, uint64_t begin, uint64_t end, const RowFormat& format,
             size_t perCall, RowBatch& out) {
  auto source = openRowSource(file, InputRange{"fuzzed", begin, end}, format);
  if (!source.ok()) {
    require(!source.status().message().empty());
    return false;
  }
  for (;;) {
    const size_t before = out.rows();
    Result<size_t> rows = source.value()->read(out, perCall);
    require(out.keys.size() == out.ends.size());
    require(out.bytes.size() == (out.ends.empty() ? 0 : out.ends.back()));
    require(out.rows() == before + (rows.ok() ? rows.value() : 0));
    if (!rows.ok()) return false;
    if (rows.value() == 0) return true;
  }
}

/** Printed rows read back equal; of NaN only that it is one. */
void checkText(const RowBatch& rows, ValueText form) {
  std::string text;
  if (!printRows(rows, form, 1, text).ok()) return;
  RowFormat format;
  format.format = InputFormat::kKeyValue;
  format.values = form;
  RowBatch back;
  require(readAll(std::as_bytes(std::span(text)), 0, UINT64_MAX, format, 100, back));
  require(back.keys == rows.keys && back.ends == rows.ends);
  for (size_t at = 0; at < rows.bytes.size(); ++at) {
    if (back.bytes[at] == rows.bytes[at]) continue;
    float value;
    require(form == ValueText::kFloats);
    // Values are whole floats here, so every one begins at a multiple of 4.
    std::memcpy(&value, rows.bytes.data() + at / 4 * 4, sizeof value);
    require(std::isnan(value));
  }
}

}  // namespace

/** The first byte picks format and options, the next three more options, rows a call, and a place to cut. */
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kChoices = 4;
  if (size < kChoices) return 0;
  const RowFormat format = formatOf(data[0], data[1]);
  const size_t perCall = 1 + data[2] % 64;
  const uint64_t cut = data[3];
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size)).subspan(kChoices);
  RowBatch whole;
  const bool isWhole = readAll(file, 0, UINT64_MAX, format, perCall, whole);
  guessValueText(whole);
  for (const ValueText form : {ValueText::kFloats, ValueText::kText, ValueText::kHex}) checkText(whole, form);
  RowBatch halves;
  const bool areWhole = readAll(file, 0, cut, format, perCall, halves) &&
                        readAll(file, cut, UINT64_MAX, format, perCall, halves);
  // A fuzzed sequence file may hold its own marker in a value.
  if (!isWhole || format.format == InputFormat::kSequenceFile) return 0;
  require(areWhole && halves.keys == whole.keys && halves.ends == whole.ends && halves.bytes == whole.bytes);
  return 0;
}
