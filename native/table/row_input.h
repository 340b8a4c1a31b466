#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "../rows/row_source.h"
#include "../status.h"
#include "row_encoder.h"

namespace onnx_serving {

/** One of the inputs of a build: a file or a part of one, or the rows of a table. */
struct RowInput {
  /** For messages. */
  std::string name;
  /** Opens it from its beginning; called from any thread, and again when the build has to start anew. */
  std::function<Result<std::unique_ptr<RowSource>>()> open;
  /** How large it is, about; 0 where unknown. For progress and for the plan of the build. */
  uint64_t bytes = 0;
  ValueForm form = ValueForm::kFloats;
  /** Whether its keys are deleted; its values do not count then. */
  bool isDelete = false;
  /** False for what can be read only once, such as standard input. */
  bool isRepeatable = true;
};

}  // namespace onnx_serving
