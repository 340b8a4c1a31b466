#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "npy_header.h"

namespace onnx_serving {

/** Appends `count` elements of an array as 32-bit floats, each the nearest one. `from` need not be aligned.
 */
void appendAsFloats(NpyType type, const std::byte* from, size_t count, std::vector<std::byte>& out);

/** Appends `count` elements of an array as keys. False, with the index, at the first negative one. Integers
 * only. */
bool appendAsKeys(NpyType type, const std::byte* from, size_t count, std::vector<uint64_t>& out, size_t& bad);

}  // namespace onnx_serving
