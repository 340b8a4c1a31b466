#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace onnx_serving {

/** Cuts a line of a CSV file into fields, one after the other. */
class CsvFields {
 public:
  CsvFields(std::span<const uint8_t> line, char delimiter)
      : line_(line), delimiter_(static_cast<uint8_t>(delimiter)) {}

  /**
   * Goes to the next field.
   *
   * @return false behind the last one, or at a quote that is not closed or is followed by something else:
   * then `isMalformed`
   */
  bool next();

  /** The field without quotes and the blanks around it; valid until the next call of `next`. */
  std::span<const uint8_t> field() const { return field_; }
  bool wasQuoted() const { return wasQuoted_; }
  /** Bytes of the line before the field. */
  size_t column() const { return column_; }
  bool isMalformed() const { return isMalformed_; }

 private:
  bool takeQuoted();
  bool isBlank(uint8_t c) const { return (c == ' ' || c == '\t') && c != delimiter_; }

  std::span<const uint8_t> line_;
  uint8_t delimiter_;
  /** Behind the field and its delimiter; one past the end of the line behind the last field. */
  size_t next_ = 0;
  size_t column_ = 0;
  std::span<const uint8_t> field_;
  /** The text of a field with quotes in it. */
  std::string unquoted_;
  bool wasQuoted_ = false;
  bool isMalformed_ = false;
};

}  // namespace onnx_serving
