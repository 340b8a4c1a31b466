#include "line_reader.h"

#include <algorithm>
#include <cstring>

#include "input_error.h"
#include "row_format.h"

namespace onnx_serving {
namespace {

/** A line behind this place is not numbered: it would take too long to count those before it. */
constexpr uint64_t kMaxCounted = uint64_t{4} << 30;

}  // namespace

Result<LineReader> LineReader::open(ByteReader reader, uint64_t begin, uint64_t end) {
  LineReader lines(std::move(reader), end);
  if (begin > 0) {
    // The line that starts at `begin` is ours: the byte before it is then the end of a line.
    lines.reader_.seek(begin - 1);
    if (Status status = lines.skipUntilLineStart(); !status.ok()) return status;
  } else {
    if (Status status = lines.reader_.fill(3); !status.ok()) return status;
    const bool hasMark =
        lines.reader_.available() >= 3 && std::memcmp(lines.reader_.unread().data(), "\xEF\xBB\xBF", 3) == 0;
    // Still the line that starts at byte 0: with the mark skipped it must not fall out of a range of 3 bytes.
    if (hasMark) {
      lines.reader_.skip(3);
      lines.end_ = std::max<uint64_t>(end, end > 0 ? 4 : 0);
    }
  }
  lines.firstLine_ = lines.reader_.offset();
  return lines;
}

Status LineReader::skipUntilLineStart() {
  for (;;) {
    if (Status status = reader_.fill(1); !status.ok()) return status;
    const std::span<const std::byte> unread = reader_.unread();
    if (unread.empty() || reader_.offset() >= end_) return {};
    const auto* const found = static_cast<const std::byte*>(std::memchr(unread.data(), '\n', unread.size()));
    if (found != nullptr) {
      reader_.skip(static_cast<size_t>(found - unread.data()) + 1);
      return {};
    }
    reader_.skip(unread.size());
  }
}

Result<bool> LineReader::next() {
  for (;;) {
    if (taken_ > 0) {
      reader_.skip(taken_);
      taken_ = 0;
      ++linesBefore_;
    }
    line_ = {};
    if (reader_.offset() >= end_) return false;
    Result<bool> found = findLineEnd();
    if (!found.ok() || !found.value() || !line_.empty()) return found;
  }
}

/** Sets `line_` and `taken_`; false at the end of the file. */
Result<bool> LineReader::findLineEnd() {
  size_t searched = 0;
  for (;;) {
    const std::span<const std::byte> unread = reader_.unread();
    const auto* const first = reinterpret_cast<const uint8_t*>(unread.data());
    const void* const found =
        unread.size() > searched ? std::memchr(first + searched, '\n', unread.size() - searched) : nullptr;
    searched = unread.size();
    size_t length = unread.size();
    if (found != nullptr) {
      length = static_cast<size_t>(static_cast<const uint8_t*>(found) - first);
      taken_ = length + 1;
    } else if (searched <= kMaxRecordBytes) {
      if (Status status = reader_.fill(searched + 1); !status.ok()) return status;
      if (reader_.available() > searched) continue;
      if (searched == 0) return false;
      taken_ = length;
    }
    if (length > kMaxRecordBytes) {
      line_ = {};
      return problem(
          0, "a line of more than " + std::to_string(kMaxRecordBytes) + " bytes, expected a shorter one");
    }
    const bool hasReturn = length > 0 && first[length - 1] == '\r';
    line_ = {first, length - hasReturn};
    return true;
  }
}

Status LineReader::problem(size_t column, const std::string& what) {
  const uint64_t place = reader_.offset() + column;
  return badInput(reader_.path() + lineName(), place, what);
}

/** ", line 12", or nothing where that cannot be told. */
std::string LineReader::lineName() {
  uint64_t number = linesBefore_ + 1;
  if (firstLine_ > kMaxCounted) return "";
  if (firstLine_ > 3) {
    reader_.seek(0);
    for (uint64_t left = firstLine_; left > 0;) {
      if (!reader_.fill(1).ok() || reader_.available() == 0) return "";
      const std::span<const std::byte> block =
          reader_.unread().first(static_cast<size_t>(std::min<uint64_t>(left, reader_.available())));
      number += static_cast<uint64_t>(std::count(block.begin(), block.end(), std::byte{'\n'}));
      reader_.skip(block.size());
      left -= block.size();
    }
  }
  return ", line " + std::to_string(number);
}

}  // namespace onnx_serving
