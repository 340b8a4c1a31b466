#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include "decimal.h"
#include "json_tensor.h"

namespace onnx_serving {
namespace {

using decimal_detail::isDigit;

bool isSpace(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/** Moves `at` behind a word if it stands there. */
bool takeWord(const uint8_t*& at, const uint8_t* end, std::string_view word) {
  if (static_cast<size_t>(end - at) < word.size() || std::memcmp(at, word.data(), word.size()) != 0)
    return false;
  at += word.size();
  return true;
}

template <class T>
bool readSpecialFloat(const uint8_t*& at, const uint8_t* end, T& value) {
  const bool isQuoted = at < end && *at == '"';
  if (isQuoted) ++at;
  if (takeWord(at, end, "NaN")) {
    value = std::numeric_limits<T>::quiet_NaN();
  } else if (takeWord(at, end, "Infinity")) {
    value = std::numeric_limits<T>::infinity();
  } else if (takeWord(at, end, "-Infinity")) {
    value = -std::numeric_limits<T>::infinity();
  } else {
    return false;
  }
  return !isQuoted || takeWord(at, end, "\"");
}

template <class T>
bool readFloat(const uint8_t*& at, const uint8_t* end, T& value) {
  const uint8_t* const first = at;
  if (parseDecimal(at, end, value) == DecimalOutcome::kOk) return true;
  at = first;
  return readSpecialFloat(at, end, value);
}

template <class T>
bool readInteger(const uint8_t*& at, const uint8_t* end, T& value) {
  const bool isNegative = at < end && *at == '-';
  if (isNegative) ++at;
  const uint8_t* const firstDigit = at;
  uint64_t magnitude = 0;
  for (; at < end && isDigit(*at); ++at) {
    const auto digit = static_cast<uint64_t>(*at - '0');
    // 20 digits and more may wrap around; 19 never do.
    if (at - firstDigit >= 19 && magnitude > (std::numeric_limits<uint64_t>::max() - digit) / 10)
      return false;
    magnitude = magnitude * 10 + digit;
  }
  if (at == firstDigit || (*firstDigit == '0' && at - firstDigit > 1)) return false;
  const auto highest = static_cast<uint64_t>(std::numeric_limits<T>::max());
  const uint64_t limit = !isNegative ? highest : std::is_signed_v<T> ? highest + 1 : 0;
  if (magnitude > limit) return false;
  value = static_cast<T>(isNegative ? 0 - magnitude : magnitude);
  return true;
}

bool readBool(const uint8_t*& at, const uint8_t* end, bool& value) {
  if (at == end) return false;
  value = *at == 't' || *at == '1';
  if (*at == '0' || *at == '1') {
    ++at;
    return true;
  }
  return takeWord(at, end, value ? "true" : "false");
}

/** Reads one element and moves behind it; where it does not, `at` is left anywhere. */
template <class T>
bool readElement(const uint8_t*& at, const uint8_t* end, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return readBool(at, end, value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return readFloat(at, end, value);
  } else if constexpr (sizeof(T) == 8) {
    if (at == end || *at != '"') return readInteger(at, end, value);
    ++at;
    return readInteger(at, end, value) && takeWord(at, end, "\"");
  } else {
    return readInteger(at, end, value);
  }
}

const char* datatypeName(Datatype datatype) {
  switch (datatype) {
    case Datatype::kFp32:
      return "FP32";
    case Datatype::kUint8:
      return "UINT8";
    case Datatype::kInt8:
      return "INT8";
    case Datatype::kUint16:
      return "UINT16";
    case Datatype::kInt16:
      return "INT16";
    case Datatype::kInt32:
      return "INT32";
    case Datatype::kInt64:
      return "INT64";
    case Datatype::kBool:
      return "BOOL";
    case Datatype::kFp64:
      return "FP64";
    case Datatype::kUint32:
      return "UINT32";
    case Datatype::kUint64:
      return "UINT64";
  }
  return "unknown";
}

template <class T>
std::string expectation() {
  if constexpr (std::is_same_v<T, bool>) return "true, false, 1 or 0";
  if constexpr (std::is_floating_point_v<T>) return "a number in range, NaN, Infinity or -Infinity";
  return std::to_string(std::numeric_limits<T>::min()) + " to " +
         std::to_string(std::numeric_limits<T>::max());
}

/** What stands at `at`, fit for a log line: one token, 32 characters at most, printable. */
std::string excerpt(const uint8_t* at, const uint8_t* end) {
  constexpr size_t kMaxExcerpt = 32;
  if (at == end) return "the end of the text";
  const bool isString = *at == '"';
  std::string text;
  for (; at < end && text.size() < kMaxExcerpt; ++at) {
    const bool isEnd = isString ? text.size() > 0 && *at == '"' : isSpace(*at) || *at == ',' || *at == ']';
    if (isEnd && (isString || !text.empty())) {
      if (isString) text += '"';
      return text;
    }
    text += *at >= 0x20 && *at < 0x7F ? static_cast<char>(*at) : '?';
  }
  if (at < end) text.replace(kMaxExcerpt - 3, 3, "...");
  return text;
}

std::string shapeText(std::span<const size_t> shape) {
  std::string text = "[";
  for (const size_t dim : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dim);
  }
  return text + "]";
}

template <class T>
class TensorReader {
 public:
  TensorReader(std::span<const uint8_t> body, size_t start, size_t end, Datatype datatype,
               std::span<const size_t> shape, void* out)
      : begin_(body.data()),
        at_(body.data() + start),
        end_(body.data() + end),
        datatype_(datatype),
        shape_(shape),
        out_(static_cast<Stored*>(out)) {}

  Status run() {
    size_t count = 1;
    for (const size_t dim : shape_) count *= dim;
    skipSpace();
    Status status = readValue(count);
    if (!status.ok()) return status;
    skipSpace();
    if (at_ != end_) return elementFailure(written_, at_, "the end of the text");
    return status;
  }

 private:
  using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;

  void skipSpace() {
    while (at_ < end_ && isSpace(*at_)) ++at_;
  }

  Status readValue(size_t count) {
    if (at_ == end_ || *at_ != '[') {
      if (!shape_.empty()) return elementFailure(0, at_, "an array");
      const uint8_t* const first = at_;
      T value{};
      if (!readElement(at_, end_, value) || (at_ < end_ && !isSpace(*at_))) return elementFailure(0, first);
      out_[written_++] = static_cast<Stored>(value);
      return {};
    }
    const uint8_t* const opening = at_++;
    skipSpace();
    const bool isNested = shape_.size() > 1 && at_ < end_ && *at_ == '[';
    at_ = opening;
    return isNested ? readLevel(0) : readRun(count, false);
  }

  /** Reads an array of arrays, or of elements at the last dimension. */
  Status readLevel(size_t dimension) {
    if (dimension + 1 == shape_.size()) return readRun(shape_[dimension], true);
    if (at_ == end_ || *at_ != '[') return elementFailure(written_, at_, "a nested array");
    const uint8_t* const opening = at_++;
    skipSpace();
    size_t rows = 0;
    if (at_ < end_ && *at_ == ']') {
      ++at_;
    } else {
      for (;;) {
        if (rows == shape_[dimension])
          return rowFailure(dimension, opening, "more than " + std::to_string(rows));
        if (Status status = readLevel(dimension + 1); !status.ok()) return status;
        ++rows;
        skipSpace();
        if (at_ == end_ || (*at_ != ',' && *at_ != ']')) return elementFailure(written_, at_, "',' or ']'");
        if (*at_++ == ']') break;
        skipSpace();
      }
    }
    if (rows != shape_[dimension]) return rowFailure(dimension, opening, std::to_string(rows));
    return {};
  }

  /** Reads `[`, exactly `count` elements and `]`. */
  Status readRun(size_t count, bool isRow) {
    if (at_ == end_ || *at_ != '[') return elementFailure(written_, at_, "a nested array");
    const uint8_t* const opening = at_;
    const uint8_t* const end = end_;
    const uint8_t* at = at_ + 1;
    Stored* const out = out_ + written_;
    size_t read = 0;
    while (at < end && isSpace(*at)) ++at;
    if (at < end && *at == ']') {
      ++at;
    } else {
      for (;;) {
        const uint8_t* const first = at;
        T value{};
        const bool isRead = readElement(at, end, value);
        while (at < end && isSpace(*at)) ++at;
        if (!isRead || at == end || (*at != ',' && *at != ']')) return elementFailure(written_ + read, first);
        // Elements beyond the shape are still counted: the message names how many came.
        if (read < count) out[read] = static_cast<Stored>(value);
        ++read;
        if (*at++ == ']') break;
        while (at < end && isSpace(*at)) ++at;
      }
    }
    at_ = at;
    if (read != count)
      return isRow ? rowFailure(shape_.size() - 1, opening, std::to_string(read)) : countFailure(read, count);
    written_ += read;
    return {};
  }

  Status elementFailure(size_t index, const uint8_t* at, const std::string& expected) const {
    return {code::kBadTensor, "data[" + std::to_string(index) + "]: expected " + expected + ", got " +
                                  excerpt(at, end_) + " (byte " + std::to_string(at - begin_) + ")"};
  }

  Status elementFailure(size_t index, const uint8_t* at) const {
    return elementFailure(index, at, std::string(datatypeName(datatype_)) + ", " + expectation<T>());
  }

  Status countFailure(size_t came, size_t expected) const {
    return {code::kBadTensor, "data has " + std::to_string(came) + (came == 1 ? " element" : " elements") +
                                  ", expected " + std::to_string(expected) + " for shape " +
                                  shapeText(shape_)};
  }

  Status rowFailure(size_t dimension, const uint8_t* at, const std::string& came) const {
    return {code::kBadTensor, "data has an array of " + came + " at dimension " + std::to_string(dimension) +
                                  ", expected " + std::to_string(shape_[dimension]) + " for shape " +
                                  shapeText(shape_) + " (byte " + std::to_string(at - begin_) + ")"};
  }

  const uint8_t* const begin_;
  const uint8_t* at_;
  const uint8_t* const end_;
  const Datatype datatype_;
  const std::span<const size_t> shape_;
  Stored* const out_;
  size_t written_ = 0;
};

}  // namespace

Status parseTensor(std::span<const uint8_t> body, size_t start, size_t end, Datatype datatype,
                   std::span<const size_t> shape, void* out) {
  return withElementType(datatype, [&](auto tag) {
    return TensorReader<typename decltype(tag)::type>(body, start, end, datatype, shape, out).run();
  });
}

}  // namespace onnx_serving
