#pragma once

#include <memory>

#include "../rows/row_source.h"

namespace onnx_serving {

/**
 * The keys of a text file, one in decimal digits a line, as rows with empty values; blanks around a key do
 * not count. SRV_IO; when read SRV_BAD_INPUT_FILE with the line of what is no key.
 */
Result<std::unique_ptr<RowSource>> openKeyListSource(const InputRange& range);

}  // namespace onnx_serving
