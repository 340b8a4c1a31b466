#pragma once

#include <cstdint>
#include <memory>

#include "byte_reader.h"
#include "row_source.h"

namespace onnx_serving {

/**
 * Rows of a CSV file, one a line: the field of the key column is the key, the others in their order are the
 * floats of the value. Fields may stand in double quotes (a quote inside is written twice) but not hold a
 * line end; blanks around them do not count. Every line has as many fields as the first; an empty field is an
 * error.
 *
 * The header line is recognised, where that is left open, by a first line whose key begins with none of the
 * characters of numbers, or by a key column that is given by name. As openRowSource; errors name line and
 * column.
 */
Result<std::unique_ptr<RowSource>> openCsvSource(ByteReader reader, uint64_t begin, uint64_t end,
                                                 const RowFormat& format);

}  // namespace onnx_serving
