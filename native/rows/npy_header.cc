#include "npy_header.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "input_error.h"

namespace onnx_serving {
namespace {

constexpr size_t kMaxHeaderBytes = size_t{64} << 10;
constexpr size_t kMaxDimensions = 8;

constexpr std::array<std::pair<std::string_view, NpyType>, 11> kTypes = {{{"f2", NpyType::kF2},
                                                                          {"f4", NpyType::kF4},
                                                                          {"f8", NpyType::kF8},
                                                                          {"i1", NpyType::kI1},
                                                                          {"u1", NpyType::kU1},
                                                                          {"i2", NpyType::kI2},
                                                                          {"u2", NpyType::kU2},
                                                                          {"i4", NpyType::kI4},
                                                                          {"u4", NpyType::kU4},
                                                                          {"i8", NpyType::kI8},
                                                                          {"u8", NpyType::kU8}}};

/** Reads the Python dictionary of a header: exactly descr, fortran_order and shape, each once. */
class Dictionary {
 public:
  explicit Dictionary(std::string_view text) : text_(text) {}

  std::optional<std::string> descr;
  std::optional<bool> isFortran;
  std::optional<std::vector<uint64_t>> shape;

  /** Null when the whole text was read; otherwise what was expected at `place`. */
  const char* read() {
    if (!take('{')) return "a dictionary";
    while (!take('}')) {
      if (const char* const problem = readEntry()) return problem;
      if (!take(',') && !isAt('}')) return "a comma or }";
    }
    skipBlanks();
    if (at_ != text_.size()) return "nothing behind the dictionary";
    if (!descr || !isFortran || !shape) return "the keys descr, fortran_order and shape";
    return nullptr;
  }

  size_t place() const { return at_; }

 private:
  const char* readEntry() {
    const std::optional<std::string> key = readString();
    if (!key) return "a key in quotes";
    if (!take(':')) return "a colon";
    if (*key == "descr" && !descr) {
      descr = readString();
      return descr ? nullptr : "one element type in quotes (arrays of records are not read)";
    }
    if (*key == "fortran_order" && !isFortran) {
      if (takeWord("True")) isFortran = true;
      if (takeWord("False")) isFortran = false;
      return isFortran ? nullptr : "True or False";
    }
    if (*key == "shape" && !shape) return readShape();
    return "each of descr, fortran_order and shape once";
  }

  const char* readShape() {
    if (!take('(')) return "a shape in parentheses";
    shape.emplace();
    while (!take(')')) {
      skipBlanks();
      uint64_t size = 0;
      const char* const first = text_.data() + at_;
      const auto read = std::from_chars(first, text_.data() + text_.size(), size);
      if (read.ec != std::errc() || shape->size() == kMaxDimensions) return "at most 8 dimensions";
      at_ += static_cast<size_t>(read.ptr - first);
      shape->push_back(size);
      if (!take(',') && !isAt(')')) return "a comma or )";
    }
    return nullptr;
  }

  std::optional<std::string> readString() {
    skipBlanks();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return std::nullopt;
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }

  void skipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }

  bool isAt(char c) {
    skipBlanks();
    return at_ < text_.size() && text_[at_] == c;
  }

  bool take(char c) {
    const bool found = isAt(c);
    at_ += found;
    return found;
  }

  bool takeWord(std::string_view word) {
    skipBlanks();
    const bool found = text_.substr(at_).starts_with(word);
    if (found) at_ += word.size();
    return found;
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::string quoted(std::string_view text) {
  return excerpt({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

/** Sets the type, or says what is wrong with it. */
std::optional<std::string> readType(const std::string& descr, NpyType& type) {
  const std::string_view text = descr;
  if (text.starts_with('>')) {
    return "big-endian elements " + quoted(text) + ", expected little-endian ones: convert with astype('<" +
           std::string(text.substr(1, 8)) + "')";
  }
  for (const auto& [name, known] : kTypes) {
    const bool isByte = name.ends_with('1');
    if (text.size() == 3 && text.substr(1) == name && (text[0] == '<' || (isByte && text[0] == '|'))) {
      type = known;
      return std::nullopt;
    }
  }
  return "elements of type " + quoted(text) + ", expected <f2, <f4, <f8, or integers of 1, 2, 4 or 8 bytes";
}

Status cutOff(const ByteReader& reader) {
  return badInput(reader.path(), reader.offset() + reader.available(), "the file ends in its header");
}

}  // namespace

size_t npyBytes(NpyType type) {
  switch (type) {
    case NpyType::kI1:
    case NpyType::kU1:
      return 1;
    case NpyType::kF2:
    case NpyType::kI2:
    case NpyType::kU2:
      return 2;
    case NpyType::kF4:
    case NpyType::kI4:
    case NpyType::kU4:
      return 4;
    case NpyType::kF8:
    case NpyType::kI8:
    case NpyType::kU8:
      break;
  }
  return 8;
}

Result<NpyHeader> readNpyHeader(ByteReader& reader) {
  if (Status status = reader.fill(12); !status.ok()) return status;
  const auto* const head = reinterpret_cast<const uint8_t*>(reader.unread().data());
  if (reader.available() < 6 || std::memcmp(head, "\x93NUMPY", 6) != 0) {
    return badInput(reader.path(), 0, "no NumPy array: expected 93 \"NUMPY\" at the beginning");
  }
  if (reader.available() < 10) return cutOff(reader);
  const uint8_t version = head[6];
  if (version < 1 || version > 3 || head[7] != 0) {
    return badInput(reader.path(), 6,
                    "a .npy file of version " + std::to_string(version) + "." + std::to_string(head[7]) +
                        ", expected 1.0, 2.0 or 3.0");
  }
  if (version > 1 && reader.available() < 12) return cutOff(reader);
  size_t length = head[8] | head[9] << 8;
  if (version > 1) length |= static_cast<size_t>(head[10]) << 16 | static_cast<size_t>(head[11]) << 24;
  const size_t prefix = version > 1 ? 12 : 10;
  if (length > kMaxHeaderBytes) {
    return badInput(reader.path(), 8,
                    "a header of " + std::to_string(length) + " bytes, expected at most " +
                        std::to_string(kMaxHeaderBytes));
  }
  if (Status status = reader.fill(prefix + length); !status.ok()) return status;
  if (reader.available() < prefix + length) return cutOff(reader);
  const std::string_view text(reinterpret_cast<const char*>(reader.unread().data()) + prefix, length);

  Dictionary dictionary(text);
  if (const char* const expected = dictionary.read()) {
    return badInput(reader.path(), prefix + dictionary.place(),
                    std::string("the header is not what NumPy writes: expected ") + expected + ", found " +
                        quoted(text.substr(std::min(dictionary.place(), text.size()))));
  }
  if (*dictionary.isFortran) {
    return badInput(reader.path(), prefix,
                    "an array in Fortran order, whose rows do not lie in one piece; expected C order: save "
                    "numpy.ascontiguousarray(array)");
  }
  NpyHeader header{NpyType::kF4, *dictionary.descr, std::move(*dictionary.shape), prefix + length};
  if (const auto problem = readType(header.descr, header.type)) {
    return badInput(reader.path(), prefix, *problem);
  }
  reader.skip(prefix + length);
  return header;
}

}  // namespace onnx_serving
