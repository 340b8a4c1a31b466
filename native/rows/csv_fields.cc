#include "csv_fields.h"

#include <cstring>

namespace onnx_serving {

bool CsvFields::next() {
  if (isMalformed_ || next_ > line_.size()) return false;
  size_t at = next_;
  while (at < line_.size() && isBlank(line_[at])) ++at;
  column_ = at;
  wasQuoted_ = at < line_.size() && line_[at] == '"';
  if (wasQuoted_) {
    isMalformed_ = !takeQuoted();
    return !isMalformed_;
  }
  const size_t left = line_.size() - at;
  const void* const found = left > 0 ? std::memchr(line_.data() + at, delimiter_, left) : nullptr;
  size_t end = found != nullptr ? static_cast<size_t>(static_cast<const uint8_t*>(found) - line_.data())
                                : line_.size();
  next_ = end + 1;
  while (end > at && isBlank(line_[end - 1])) --end;
  field_ = line_.subspan(at, end - at);
  return true;
}

/** `column_` is that of the first quote. */
bool CsvFields::takeQuoted() {
  size_t at = column_ + 1;
  unquoted_.clear();
  for (;; ++at) {
    if (at >= line_.size()) return false;
    if (line_[at] != '"') {
      unquoted_ += static_cast<char>(line_[at]);
    } else if (at + 1 < line_.size() && line_[at + 1] == '"') {
      unquoted_ += '"';
      ++at;
    } else {
      break;
    }
  }
  ++at;
  while (at < line_.size() && isBlank(line_[at])) ++at;
  if (at < line_.size() && line_[at] != delimiter_) return false;
  next_ = at + 1;
  field_ = {reinterpret_cast<const uint8_t*>(unquoted_.data()), unquoted_.size()};
  return true;
}

}  // namespace onnx_serving
