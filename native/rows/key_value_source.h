#pragma once

#include <cstdint>
#include <memory>

#include "byte_reader.h"
#include "row_source.h"

namespace onnx_serving {

/**
 * Rows of `key:value` text, one a line: the key's decimal digits, a colon, and the value up to the end of the
 * line. As openRowSource; errors name the line.
 */
Result<std::unique_ptr<RowSource>> openKeyValueSource(ByteReader reader, uint64_t begin, uint64_t end,
                                                      ValueText values);

}  // namespace onnx_serving
