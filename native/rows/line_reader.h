#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "byte_reader.h"

namespace onnx_serving {

/** The lines of a range of a text file that are not empty. For one thread at a time. */
class LineReader {
 public:
  /** Of the lines that start in [begin, end); a byte order mark at the beginning of the file is left out.
   * SRV_IO. */
  static Result<LineReader> open(ByteReader reader, uint64_t begin, uint64_t end);

  /**
   * Goes to the next line.
   *
   * @return false behind the last one. SRV_BAD_INPUT_FILE for a line over kMaxRecordBytes, SRV_IO
   */
  Result<bool> next();

  /** The line without its end (LF or CR LF); valid until the next call of `next`. */
  std::span<const uint8_t> line() const { return line_; }
  /** Place of the line in the file. */
  uint64_t offset() const { return reader_.offset(); }
  const std::string& path() const { return reader_.path(); }

  /**
   * SRV_BAD_INPUT_FILE for something in the current line: file, number of the line, byte, and what was found
   * and expected. Reads the file up to the range to number the line, so this ends the reading.
   *
   * @param column bytes of the line before the place
   */
  Status problem(size_t column, const std::string& what);

  /** The file, to read it from another place; this ends the reading. */
  ByteReader takeReader() { return std::move(reader_); }

 private:
  LineReader(ByteReader reader, uint64_t end) : reader_(std::move(reader)), end_(end) {}

  Result<bool> findLineEnd();
  Status skipUntilLineStart();
  std::string lineName();

  ByteReader reader_;
  uint64_t end_;
  /** Where the first line of the range starts. */
  uint64_t firstLine_ = 0;
  /** Lines of the range before the current one. */
  uint64_t linesBefore_ = 0;
  std::span<const uint8_t> line_;
  /** Bytes of the current line with its end; 0 before the first. */
  size_t taken_ = 0;
};

}  // namespace onnx_serving
