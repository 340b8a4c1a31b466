#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "datatype.h"
#include "status.h"

namespace onnx_serving {

/** Most dimensions of a shape that comes from a request. */
inline constexpr size_t kMaxRank = 64;

/**
 * Reads the JSON text body[start, end) of a tensor into `out`, row-major.
 *
 * The text is a flat array, or arrays nested exactly as the shape; for the empty shape also a bare value.
 * Numbers follow JSON's grammar; floats also take NaN, Infinity and -Infinity, bare or quoted, 64-bit
 * integers also quoted digits, BOOL takes true, false, 1 and 0. An integer out of range or written with a
 * fraction or exponent, and a decimal too large for its float, are SRV_BAD_TENSOR, as is a count that does
 * not fit.
 *
 * @param out room for the product of `shape` elements, aligned for the element; BOOL as bytes 0 and 1. Partly
 *   written when the text is refused.
 */
Status parseTensor(std::span<const uint8_t> body, size_t start, size_t end, Datatype datatype,
                   std::span<const size_t> shape, void* out);

/** Most bytes that one element takes when printed, its comma included. */
inline constexpr size_t kMaxElementText = 32;

/**
 * Writes elements as a JSON array: shortest digits that read back equal, NaN, Infinity and -Infinity as bare
 * words, -0 as -0.0, BOOL as true and false.
 *
 * @param to room for `count * kMaxElementText + 2` bytes
 * @return behind the last byte written
 */
char* printTensorTo(char* to, Datatype datatype, const void* elements, size_t count);

/** As printTensorTo, for any number of elements. */
std::string printTensor(Datatype datatype, const void* elements, size_t count);

}  // namespace onnx_serving
