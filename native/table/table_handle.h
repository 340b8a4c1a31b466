#pragma once

#include <memory>

#include "../napi_support.h"
#include "table_version.h"

namespace onnx_serving {

/** The open table that an argument is a handle of; refuses the argument and returns null otherwise. */
std::shared_ptr<const TableVersion> tableOf(Arguments& arguments, size_t index);

}  // namespace onnx_serving
