#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "status.h"

namespace onnx_serving {

/** Bytes [start, end) of a body. */
struct Section {
  size_t start;
  size_t end;
};

/** A request body taken apart: see scanInferBody. */
struct InferBodyScan {
  /** The body with every `inputs[i].data` value replaced by its number in `sections` and a space. */
  std::string envelope;
  /** Whether the envelope has no byte above 0x7F. */
  bool isAscii = true;
  /** The cut values in order of appearance, brackets and quotes included. */
  std::vector<Section> sections;
};

/** Nesting that is followed; deeper bodies are refused. */
inline constexpr int kMaxNesting = 128;

/**
 * Cuts the tensor data out of the JSON text of an inference request, so that JSON.parse sees only the small
 * rest.
 *
 * The envelope's grammar is left to JSON.parse and a section's to its own reader. The cut is made so that
 * neither can be fooled: keys are compared after their escapes are resolved, and a space behind the number
 * keeps it from growing into a larger one.
 *
 * Fails with SRV_BAD_JSON and a byte offset for brackets that do not match, text that ends inside a value,
 * more than kMaxNesting levels, and bytes outside the sections that are not UTF-8.
 */
Result<InferBodyScan> scanInferBody(std::span<const uint8_t> body);

}  // namespace onnx_serving
