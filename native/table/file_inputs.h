#pragma once

#include <string>
#include <vector>

#include "row_input.h"

namespace onnx_serving {

/** The files of a build, and how to read them. */
struct FileInputs {
  /** In the order in which later rows replace earlier ones; "-" is standard input. */
  std::vector<std::string> paths;
  RowFormat format;
  /** Whether each file is asked for its format; the rest of `format` counts as it stands. */
  bool guessesFormat = false;
  ValueForm form = ValueForm::kFloats;
  /** Files of keys to delete, one a line; they come behind all rows. */
  std::vector<std::string> deletePaths;
};

/** Cuts all files into inputs that several threads can read. SRV_IO for a file that cannot be read. */
Result<std::vector<RowInput>> openFileInputs(const FileInputs& files, unsigned threads);

}  // namespace onnx_serving
