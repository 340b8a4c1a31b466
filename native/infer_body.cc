#include "infer_body.h"

#include <array>
#include <bitset>
#include <string_view>

#include "byte_scan.h"

namespace onnx_serving {
namespace {

/** What a container is on the way to `inputs[i].data`. */
enum class Role : uint8_t { kOther, kTop, kInputs, kInput };

bool isSpace(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

int hexValue(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  const uint8_t lower = c | 0x20;
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/** Whether the text between the quotes of a JSON string, escapes resolved, equals a word of plain letters. */
bool stringEquals(std::string_view text, std::string_view word) {
  if (text.find('\\') == std::string_view::npos) return text == word;
  size_t at = 0;
  for (const char wanted : word) {
    if (at == text.size()) return false;
    int unit = static_cast<uint8_t>(text[at]);
    if (unit != '\\') {
      ++at;
    } else {
      // None of the short escapes stands for a letter.
      if (text.size() - at < 6 || text[at + 1] != 'u') return false;
      unit = 0;
      for (size_t i = at + 2; i < at + 6; ++i) {
        const int digit = hexValue(static_cast<uint8_t>(text[i]));
        if (digit < 0) return false;
        unit = unit * 16 + digit;
      }
      at += 6;
    }
    if (unit != wanted) return false;
  }
  return at == text.size();
}

class Scanner {
 public:
  explicit Scanner(std::span<const uint8_t> body)
      : begin_(body.data()), end_(body.data() + body.size()), at_(begin_), copied_(begin_) {}

  Result<InferBodyScan> run() {
    while (at_ < end_) {
      const uint8_t c = *at_;
      switch (c) {
        case '"': {
          if (Status status = readString(); !status.ok()) return status;
          break;
        }
        case '{':
        case '[': {
          const Role role = roleOf(c);
          if (Status status = push(c, role); !status.ok()) return status;
          break;
        }
        case '}':
        case ']':
          if (Status status = pop(c); !status.ok()) return status;
          break;
        default:
          // Commas, numbers and words: a value that is not a container ends what the last key promised.
          if (c != ':' && !isSpace(c)) valueRole_ = Role::kOther;
          ++at_;
      }
    }
    if (depth_ > 0) {
      return failure(openedAt_[static_cast<size_t>(depth_ - 1)],
                     isObject_[static_cast<size_t>(depth_ - 1)] ? "the object" : "the array",
                     " does not end");
    }
    if (Status status = copyTo(end_); !status.ok()) return status;
    return std::move(scan_);
  }

 private:
  Role role() const { return depth_ == 0 ? Role::kOther : roles_[static_cast<size_t>(depth_ - 1)]; }

  Role roleOf(uint8_t opening) {
    if (opening == '{') {
      if (depth_ == 0) return Role::kTop;
      return role() == Role::kInputs ? Role::kInput : Role::kOther;
    }
    return valueRole_;
  }

  Status failure(const uint8_t* at, const char* what, const char* problem) const {
    return {code::kBadJson, std::string(what) + " at byte " + std::to_string(at - begin_) + problem};
  }

  Status push(uint8_t opening, Role role) {
    if (depth_ == kMaxNesting) return failure(at_, "the value", " is nested more than 128 levels deep");
    const auto level = static_cast<size_t>(depth_++);
    isObject_[level] = opening == '{';
    roles_[level] = role;
    openedAt_[level] = at_++;
    valueRole_ = Role::kOther;
    return {};
  }

  Status pop(uint8_t closing) {
    if (depth_ == 0 || isObject_[static_cast<size_t>(depth_ - 1)] != (closing == '}')) {
      return failure(at_, closing == '}' ? "'}'" : "']'", " closes nothing that is open");
    }
    --depth_;
    ++at_;
    valueRole_ = Role::kOther;
    return {};
  }

  /** Moves behind the string at `at_`. */
  Status skipString() {
    const uint8_t* const start = at_++;
    for (;;) {
      at_ = findStringBreak(at_, end_);
      if (at_ == end_) return failure(start, "the string", " does not end");
      const uint8_t c = *at_++;
      if (c == '"') return {};
      if (c == '\\') {
        if (at_ == end_) return failure(start, "the string", " does not end");
        ++at_;
      }
    }
  }

  Status readString() {
    const Role container = role();
    const uint8_t* const start = at_;
    if (Status status = skipString(); !status.ok()) return status;
    valueRole_ = Role::kOther;
    if (container != Role::kTop && container != Role::kInput) return {};

    const std::string_view text(reinterpret_cast<const char*>(start) + 1,
                                static_cast<size_t>(at_ - start) - 2);
    const uint8_t* next = at_;
    while (next < end_ && isSpace(*next)) ++next;
    if (next == end_ || *next != ':') return {};
    at_ = next + 1;
    if (container == Role::kTop) {
      if (stringEquals(text, "inputs")) valueRole_ = Role::kInputs;
      return {};
    }
    return stringEquals(text, "data") ? cutValue() : Status();
  }

  /** Moves the value behind `at_` from the envelope to the sections. */
  Status cutValue() {
    while (at_ < end_ && isSpace(*at_)) ++at_;
    const uint8_t* const start = at_;
    if (Status status = skipValue(); !status.ok()) return status;
    // No value at all: JSON.parse will say so.
    if (at_ == start) return {};
    if (Status status = copyTo(start); !status.ok()) return status;
    scan_.envelope += std::to_string(scan_.sections.size());
    scan_.envelope += ' ';
    scan_.sections.push_back({static_cast<size_t>(start - begin_), static_cast<size_t>(at_ - begin_)});
    copied_ = at_;
    return {};
  }

  Status skipValue() {
    if (at_ == end_) return {};
    if (*at_ == '"') return skipString();
    if (*at_ != '[' && *at_ != '{') {
      while (at_ < end_ && !isSpace(*at_) && *at_ != ',' && *at_ != ':' &&
             scalar::findStructural(at_, at_ + 1) != at_) {
        ++at_;
      }
      return {};
    }
    const uint8_t* const start = at_;
    const int outside = depth_;
    do {
      at_ = findStructural(at_, end_);
      if (at_ == end_) return failure(start, "the data", " does not end");
      const uint8_t c = *at_;
      Status status = c == '"' ? skipString() : c == '[' || c == '{' ? push(c, Role::kOther) : pop(c);
      if (!status.ok()) return status;
    } while (depth_ > outside);
    return {};
  }

  /** Appends the bytes before `upTo` that are not in the envelope yet. */
  Status copyTo(const uint8_t* upTo) {
    const uint8_t* const bad = findInvalidUtf8(copied_, upTo, scan_.isAscii);
    if (bad != upTo) return failure(bad, "the text", " is not UTF-8");
    scan_.envelope.append(reinterpret_cast<const char*>(copied_), static_cast<size_t>(upTo - copied_));
    copied_ = upTo;
    return {};
  }

  const uint8_t* const begin_;
  const uint8_t* const end_;
  const uint8_t* at_;
  /** Everything before this is in the envelope or in a section. */
  const uint8_t* copied_;
  /** The role that an array gets if it comes next. */
  Role valueRole_ = Role::kOther;
  int depth_ = 0;
  std::bitset<kMaxNesting> isObject_;
  std::array<Role, kMaxNesting> roles_;
  std::array<const uint8_t*, kMaxNesting> openedAt_;
  InferBodyScan scan_;
};

}  // namespace

Result<InferBodyScan> scanInferBody(std::span<const uint8_t> body) { return Scanner(body).run(); }

}  // namespace onnx_serving
