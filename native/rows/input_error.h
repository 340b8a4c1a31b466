#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../status.h"

namespace onnx_serving {

/** SRV_BAD_INPUT_FILE: the file, the place in it, and what was found and expected there. */
Status badInput(const std::string& path, uint64_t offset, const std::string& problem);

/** The first characters of some text as messages show it: in quotes, without control characters. */
std::string excerpt(std::span<const uint8_t> text);

}  // namespace onnx_serving
