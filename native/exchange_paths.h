#pragma once

#include <string>

#include "status.h"

namespace onnx_serving {

/**
 * Lets two files or directories of one file system change places in one step, so that at no time one of the
 * names is missing. False, and nothing done, where the operating system or the file system has no such step.
 */
Result<bool> exchangePaths(const std::string& first, const std::string& second);

}  // namespace onnx_serving
