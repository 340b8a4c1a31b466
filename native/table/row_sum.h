#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shard_format.h"

namespace onnx_serving {

/** Adds rows up element by element, for their mean. */
class RowSum {
 public:
  /** @param type not rows of bytes */
  RowSum(RowType type, uint32_t dim) : type_(type), sums_(dim) {}

  /** Adds a row as the table stores it. */
  void add(const std::byte* row);
  /** Adds what another sum has, of the same type and dim. */
  void add(const RowSum& other);
  /** The mean of all rows; zeros when there was none. NaN and infinities of rows come through. */
  std::vector<float> mean() const;

 private:
  RowType type_;
  std::vector<double> sums_;
  uint64_t rows_ = 0;
};

}  // namespace onnx_serving
