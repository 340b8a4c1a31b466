#include "csv_source.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "csv_fields.h"
#include "float_text.h"
#include "input_error.h"
#include "key_text.h"
#include "line_reader.h"

namespace onnx_serving {
namespace {

constexpr const char* kBadQuotes =
    "a quoted field that is not closed on its line, or goes on behind its quote; expected \"text\"";

/** What the first line says about all of them. */
struct Columns {
  size_t count = 0;
  size_t key = 0;
  bool hasHeader = false;
};

bool isNumber(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool beginsLikeNumber(const std::string& text) {
  return !text.empty() && std::string_view("0123456789+-.").find(text[0]) != std::string_view::npos;
}

Result<std::vector<std::string>> fieldsOf(LineReader& lines, char delimiter) {
  std::vector<std::string> texts;
  CsvFields fields(lines.line(), delimiter);
  while (fields.next()) texts.emplace_back(fields.field().begin(), fields.field().end());
  if (fields.isMalformed()) return lines.problem(fields.column(), kBadQuotes);
  return texts;
}

std::string namesText(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 8; ++i) {
    const std::string& name = names[i];
    text += (i > 0 ? ", " : "") + excerpt({reinterpret_cast<const uint8_t*>(name.data()), name.size()});
  }
  return names.size() > 8 ? text + ", ..." : text;
}

Result<Columns> readColumns(LineReader& lines, const RowFormat& format) {
  Result<std::vector<std::string>> fields = fieldsOf(lines, format.delimiter);
  if (!fields.ok()) return fields.status();
  const std::vector<std::string>& first = fields.value();
  Columns columns;
  columns.count = first.size();
  const std::string& wanted = format.keyColumn;
  const bool isNamed = !wanted.empty() && !isNumber(wanted);
  if (isNamed) {
    if (format.header == HeaderLine::kNo) {
      return lines.problem(
          0, "no column \"" + wanted + "\" for the key: there is no header line, expected a number");
    }
    const auto found = std::find(first.begin(), first.end(), wanted);
    if (found == first.end()) {
      return lines.problem(0, "no column \"" + wanted + "\" for the key, found " + namesText(first));
    }
    columns.key = static_cast<size_t>(found - first.begin());
  } else if (!wanted.empty()) {
    size_t number = 0;
    const auto read = std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
    if (read.ec != std::errc() || number == 0 || number > first.size()) {
      return lines.problem(
          0, "no column " + wanted + " for the key: expected 1 to " + std::to_string(first.size()));
    }
    columns.key = number - 1;
  }
  const bool looksLikeNames = isNamed || !beginsLikeNumber(first[columns.key]);
  columns.hasHeader =
      format.header == HeaderLine::kYes || (format.header == HeaderLine::kAuto && looksLikeNames);
  return columns;
}

class CsvSource : public RowSource {
 public:
  CsvSource(LineReader lines, Columns columns, char delimiter)
      : lines_(std::move(lines)), columns_(columns), delimiter_(delimiter) {}

  /** The current line of `lines` is the first row. */
  void takeCurrentLine() { hasLine_ = true; }
  /** The line at this place is the header. */
  void leaveOut(uint64_t offset) { header_ = offset; }

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    while (!limit.isReached(out)) {
      if (!hasLine_) {
        Result<bool> found = lines_.next();
        if (!found.ok()) return found.status();
        if (!found.value()) break;
      }
      hasLine_ = false;
      if (lines_.offset() == header_) continue;
      if (Status status = appendLine(out); !status.ok()) return status;
    }
    return {};
  }

 private:
  Status appendLine(RowBatch& out) {
    CsvFields fields(lines_.line(), delimiter_);
    uint64_t key = 0;
    size_t count = 0;
    for (; fields.next(); ++count) {
      const Status status =
          count == columns_.key ? readKey(fields, key) : appendFloat(fields, count, out.bytes);
      if (!status.ok()) return status;
    }
    if (fields.isMalformed()) return lines_.problem(fields.column(), kBadQuotes);
    if (count != columns_.count) {
      return lines_.problem(0, std::to_string(count) + " fields, expected " + std::to_string(columns_.count) +
                                   " as in the first line");
    }
    out.closeRow(key);
    return {};
  }

  Status readKey(const CsvFields& fields, uint64_t& key) {
    const std::span<const uint8_t> text = fields.field();
    const uint8_t* at = text.data();
    const uint8_t* const end = at + text.size();
    const KeyOutcome outcome = parseKey(at, end, key);
    if (outcome == KeyOutcome::kOk && at == end) return {};
    return lines_.problem(fields.column(), "the key is " + excerpt(text) +
                                               ", expected a whole number from 0 to 18446744073709551615");
  }

  Status appendFloat(const CsvFields& fields, size_t column, std::vector<std::byte>& out) {
    const std::span<const uint8_t> text = fields.field();
    const uint8_t* at = text.data();
    const uint8_t* const end = at + text.size();
    float value;
    const DecimalOutcome outcome = parseFloatText(at, end, value);
    if (outcome == DecimalOutcome::kOk && at == end) {
      const std::span<const std::byte> bytes = std::as_bytes(std::span(&value, 1));
      out.insert(out.end(), bytes.begin(), bytes.end());
      return {};
    }
    const std::string found = text.empty() ? "empty" : excerpt(text);
    return lines_.problem(fields.column(),
                          "column " + std::to_string(column + 1) + " is " + found +
                              (outcome == DecimalOutcome::kOverflow ? ", too large for a 32-bit float"
                                                                    : ", expected a number"));
  }

  LineReader lines_;
  Columns columns_;
  char delimiter_;
  bool hasLine_ = false;
  std::optional<uint64_t> header_;
};

}  // namespace

Result<std::unique_ptr<RowSource>> openCsvSource(ByteReader reader, uint64_t begin, uint64_t end,
                                                 const RowFormat& format) {
  // The first line rules all ranges.
  Result<LineReader> opened = LineReader::open(std::move(reader), 0, begin == 0 ? end : UINT64_MAX);
  if (!opened.ok()) return opened.status();
  LineReader& lines = opened.value();
  Result<bool> hasLine = lines.next();
  if (!hasLine.ok()) return hasLine.status();
  Columns columns;
  const uint64_t firstLine = lines.offset();
  if (hasLine.value()) {
    Result<Columns> read = readColumns(lines, format);
    if (!read.ok()) return read.status();
    columns = read.value();
  }
  if (begin > 0) {
    Result<LineReader> ranged = LineReader::open(lines.takeReader(), begin, end);
    if (!ranged.ok()) return ranged.status();
    opened = std::move(ranged);
  }
  auto source = std::make_unique<CsvSource>(std::move(opened.value()), columns, format.delimiter);
  if (begin == 0 && hasLine.value()) source->takeCurrentLine();
  if (columns.hasHeader) source->leaveOut(firstLine);
  return std::unique_ptr<RowSource>(std::move(source));
}

}  // namespace onnx_serving
