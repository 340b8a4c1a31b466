#pragma once

#include <cstdint>
#include <string>

#include "../status.h"
#include "row_source.h"

namespace onnx_serving {

/**
 * Appends rows as lines `key:value` that read back equal: floats with the shortest digits, divided by spaces,
 * NaN, Infinity and -Infinity as words; hexadecimal digits in lower case.
 *
 * SRV_BAD_INPUT_FILE, naming the key, for a value that its form cannot hold: floats of a length that is no
 * multiple of 4, text with a line feed in it or a carriage return at its end. `firstRow` is the number of the
 * first row in messages.
 */
Status printRows(const RowBatch& rows, ValueText form, uint64_t firstRow, std::string& out);

/**
 * The form in which rows read best: text when every value is printable UTF-8, floats when every length is a
 * multiple of 4, else hex. A guess: a few float rows may happen to be printable.
 */
ValueText guessValueText(const RowBatch& rows);

}  // namespace onnx_serving
