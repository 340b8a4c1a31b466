#include "key_value_source.h"

#include "input_error.h"
#include "key_text.h"
#include "line_reader.h"
#include "value_text.h"

namespace onnx_serving {
namespace {

class KeyValueSource : public RowSource {
 public:
  KeyValueSource(LineReader lines, ValueText values) : lines_(std::move(lines)), values_(values) {}

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    while (!limit.isReached(out)) {
      Result<bool> found = lines_.next();
      if (!found.ok()) return found.status();
      if (!found.value()) break;
      if (Status status = appendLine(out); !status.ok()) return status;
    }
    return {};
  }

 private:
  Status appendLine(RowBatch& out) {
    const std::span<const uint8_t> line = lines_.line();
    const uint8_t* at = line.data();
    const uint8_t* const end = at + line.size();
    uint64_t key = 0;
    const KeyOutcome outcome = parseKey(at, end, key);
    if (outcome == KeyOutcome::kOverflow) {
      return lines_.problem(0, "the key " + excerpt(line) + " is larger than 18446744073709551615");
    }
    if (outcome != KeyOutcome::kOk) {
      return lines_.problem(0, "expected key:value with a decimal key, found " + excerpt(line));
    }
    const auto column = static_cast<size_t>(at - line.data());
    if (at == end || *at != ':') {
      return lines_.problem(column, "expected a colon behind the key, found " +
                                        (at == end ? "the end of the line" : excerpt({at, end})));
    }
    const auto fault = appendValue(values_, line.subspan(column + 1), out.bytes);
    if (fault) return lines_.problem(column + 1 + fault->column, fault->problem);
    out.closeRow(key);
    return {};
  }

  LineReader lines_;
  ValueText values_;
};

}  // namespace

Result<std::unique_ptr<RowSource>> openKeyValueSource(ByteReader reader, uint64_t begin, uint64_t end,
                                                      ValueText values) {
  Result<LineReader> lines = LineReader::open(std::move(reader), begin, end);
  if (!lines.ok()) return lines.status();
  return std::unique_ptr<RowSource>(std::make_unique<KeyValueSource>(std::move(lines.value()), values));
}

}  // namespace onnx_serving
