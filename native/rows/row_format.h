#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../status.h"

namespace onnx_serving {

/** What kinds of files rows are read from. */
enum class InputFormat : uint8_t { kSequenceFile, kKeyValue, kCsv, kNpy };

/** Whether key and value of a sequence file begin with a length of their own; auto asks the first record. */
enum class InnerLengths : uint8_t { kAuto, kYes, kNo };

/** How the bytes of a value are written as text: 32-bit floats, the bytes themselves, or hexadecimal digits.
 */
enum class ValueText : uint8_t { kFloats, kText, kHex };

/** Whether the first line of a CSV file names its columns; auto looks at the first line's key. */
enum class HeaderLine : uint8_t { kAuto, kYes, kNo };

/** How to read an input file. Each member counts only for the format it stands under. */
struct RowFormat {
  InputFormat format = InputFormat::kSequenceFile;

  /** Sequence file. */
  InnerLengths innerLengths = InnerLengths::kAuto;

  /** key:value text. */
  ValueText values = ValueText::kFloats;

  /** CSV: what stands between two fields: a comma, semicolon, tab, or another byte that no number holds. */
  char delimiter = ',';
  HeaderLine header = HeaderLine::kAuto;
  /** CSV: the key's column, as a number from 1 or by its name in the header line; empty for the first. */
  std::string keyColumn;

  /** NumPy: row i has the key firstKey + i, unless keysPath names a 1-D array of keys. */
  uint64_t firstKey = 0;
  std::string keysPath;
  /** NumPy: arrays of u1 give their bytes as they are, instead of one float each. */
  bool rawBytes = false;
};

/** Largest record, line or array row that is read. */
inline constexpr size_t kMaxRecordBytes = size_t{64} << 20;

/**
 * The format of a file, by its first bytes and, where they are text, by its name: .csv and .tsv are CSV (tabs
 * in .tsv), all others key:value. SRV_IO when it cannot be read.
 */
Result<RowFormat> guessFormat(const std::string& path);

}  // namespace onnx_serving
