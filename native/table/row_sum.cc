#include "row_sum.h"

#include <cstring>

#include "../float16.h"

namespace onnx_serving {
namespace {

template <class T>
T elementAt(const std::byte* row, size_t index) {
  T element;
  std::memcpy(&element, row + index * sizeof(T), sizeof(T));
  return element;
}

}  // namespace

void RowSum::add(const std::byte* row) {
  ++rows_;
  switch (type_) {
    case RowType::kF32:
      for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += elementAt<float>(row, i);
      break;
    case RowType::kF16:
      for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += floatOfHalf(elementAt<uint16_t>(row, i));
      break;
    case RowType::kInt8: {
      const double low = elementAt<float>(row, 0);
      const double step = (elementAt<float>(row, 1) - low) / 255;
      for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += low + step * elementAt<uint8_t>(row + 8, i);
      break;
    }
    case RowType::kBytes:
      break;
  }
}

void RowSum::add(const RowSum& other) {
  rows_ += other.rows_;
  for (size_t i = 0; i < sums_.size(); ++i) sums_[i] += other.sums_[i];
}

std::vector<float> RowSum::mean() const {
  std::vector<float> mean(sums_.size());
  for (size_t i = 0; rows_ > 0 && i < mean.size(); ++i) {
    mean[i] = static_cast<float>(sums_[i] / static_cast<double>(rows_));
  }
  return mean;
}

}  // namespace onnx_serving
