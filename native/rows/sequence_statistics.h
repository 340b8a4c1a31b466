#pragma once

#include <cstdint>
#include <string>

#include "../status.h"
#include "row_format.h"
#include "sequence_header.h"

namespace onnx_serving {

/** What a sequence file holds, up to its end or its first damage. */
struct SequenceStatistics {
  SequenceHeader header;
  bool hasInnerLengths = false;
  /** Of standard input those that were read. */
  uint64_t fileBytes = 0;
  uint64_t records = 0;
  uint64_t escapes = 0;
  uint64_t valueBytes = 0;
  /** These four count only when there are records. */
  uint64_t smallestKey = UINT64_MAX;
  uint64_t largestKey = 0;
  uint64_t shortestValue = UINT64_MAX;
  uint64_t longestValue = 0;
  /** Why the reading ended before the end of the file. */
  Status damage;
};

/** Reads a whole sequence file. An error, as of openRowSource, only when its header cannot be read. */
Result<SequenceStatistics> measureSequenceFile(const std::string& path, InnerLengths innerLengths);

}  // namespace onnx_serving
