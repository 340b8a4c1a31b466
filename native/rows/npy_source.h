#pragma once

#include <cstdint>
#include <memory>

#include "byte_reader.h"
#include "row_source.h"

namespace onnx_serving {

/**
 * Rows of a 2-D NumPy array: values are 32-bit floats, or the bytes themselves of a u1 array with rawBytes.
 * Keys count from firstKey or come from the 1-D array of integers at keysPath, which has one for each row.
 *
 * As openRowSource. The file must end with the last row; one that is cut off gives the whole rows that it
 * has.
 */
Result<std::unique_ptr<RowSource>> openNpySource(ByteReader reader, uint64_t begin, uint64_t end,
                                                 const RowFormat& format);

}  // namespace onnx_serving
