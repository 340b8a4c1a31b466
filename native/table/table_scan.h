#pragma once

#include <memory>
#include <vector>

#include "row_input.h"
#include "table_version.h"

namespace onnx_serving {

/** Which rows of a table a scan gives. */
enum class ScanOf : uint32_t {
  kAll,
  /** Those that the other table lacks, or has with other bytes. */
  kChanged,
  /** Those whose key the other table lacks. */
  kAbsent,
};

/**
 * The rows of a version as inputs of a build, in their stored form: one input for each shard of the snapshot,
 * and one for what deltas changed. Their keys are disjoint.
 *
 * @param other of the same row type and dim; not used for kAll
 * @param areDeletes whether the keys are to be deleted, instead of upserted with their rows
 */
std::vector<RowInput> scanInputs(std::shared_ptr<const TableVersion> table, ScanOf what,
                                 std::shared_ptr<const TableVersion> other, bool areDeletes);

/** How two versions differ. */
struct TableDifference {
  /** Keys that only the new one has, only the old one has, and that have another row. */
  uint64_t added = 0;
  uint64_t removed = 0;
  uint64_t changed = 0;
};

/** Compares two versions of the same row type and dim, row by row. */
Result<TableDifference> compareTables(const std::shared_ptr<const TableVersion>& from,
                                      const std::shared_ptr<const TableVersion>& to);

}  // namespace onnx_serving
