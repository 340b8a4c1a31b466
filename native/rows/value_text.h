#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "row_format.h"

namespace onnx_serving {

/** What is wrong with a text, and at which of its bytes. */
struct TextFault {
  size_t column;
  std::string problem;
};

/**
 * Appends the bytes of a value written as text; some of them even when there is a fault.
 *
 * Floats: numbers as of `parseFloatText` between blanks (spaces, tabs) and at most one comma each. Text: the
 * bytes. Hex: two digits a byte, nothing between. An empty text is an empty value in each form.
 */
std::optional<TextFault> appendValue(ValueText form, std::span<const uint8_t> text,
                                     std::vector<std::byte>& out);

}  // namespace onnx_serving
