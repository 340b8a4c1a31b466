#include "key_list_source.h"

#include <utility>

#include "../rows/input_error.h"
#include "../rows/key_text.h"
#include "../rows/line_reader.h"

namespace onnx_serving {
namespace {

bool isBlank(uint8_t character) { return character == ' ' || character == '\t'; }

class KeyListSource : public RowSource {
 public:
  explicit KeyListSource(LineReader lines) : lines_(std::move(lines)) {}

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
    const uint8_t* end = at + line.size();
    while (at < end && isBlank(*at)) ++at;
    while (at < end && isBlank(end[-1])) --end;
    if (at == end) return {};
    uint64_t key = 0;
    const KeyOutcome outcome = parseKey(at, end, key);
    const auto column = static_cast<size_t>(at - line.data());
    if (outcome == KeyOutcome::kOverflow) {
      return lines_.problem(0, "the key " + excerpt(line) + " is larger than 18446744073709551615");
    }
    if (outcome != KeyOutcome::kOk || at != end) {
      return lines_.problem(column, "expected one decimal key, found " + excerpt(line));
    }
    out.closeRow(key);
    return {};
  }

  LineReader lines_;
};

}  // namespace

Result<std::unique_ptr<RowSource>> openKeyListSource(const InputRange& range) {
  Result<ByteReader> reader = ByteReader::open(range.path);
  if (!reader.ok()) return reader.status();
  Result<LineReader> lines = LineReader::open(std::move(reader.value()), range.begin, range.end);
  if (!lines.ok()) return lines.status();
  return std::unique_ptr<RowSource>(std::make_unique<KeyListSource>(std::move(lines.value())));
}

}  // namespace onnx_serving
