#include "row_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace onnx_serving {
namespace {

constexpr uint32_t kExponentMask = 0x7f800000u;

float floatAt(const std::byte* at) {
  float value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

bool isFiniteAt(const std::byte* at) {
  return (std::bit_cast<uint32_t>(floatAt(at)) & kExponentMask) != kExponentMask;
}

size_t valueBytesOf(RowType type, uint32_t dim, ValueForm form) {
  if (type == RowType::kBytes) return 0;
  return form == ValueForm::kFloats ? size_t{dim} * sizeof(float) : storedRowBytes(type, dim);
}

}  // namespace

uint16_t halfOfFloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= kExponentMask) {
    const uint32_t isNan = magnitude > kExponentMask ? 0x200u : 0;
    return static_cast<uint16_t>(sign | 0x7c00u | isNan);
  }
  // From 65520 on the nearest of 5 exponent bits is infinity.
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 leaves multiples of 2^-24 in the lowest bits, rounded to even by the processor.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

uint32_t dimOfValue(RowType type, ValueForm form, size_t valueBytes) {
  size_t dim = 0;
  if (type == RowType::kBytes) return 0;
  if (form == ValueForm::kStored && type == RowType::kInt8) {
    dim = valueBytes > 8 ? valueBytes - 8 : 0;
  } else {
    const size_t element = form == ValueForm::kStored && type == RowType::kF16 ? 2 : sizeof(float);
    dim = valueBytes % element == 0 ? valueBytes / element : 0;
  }
  return dim <= ShardHeader::kMaxDim ? static_cast<uint32_t>(dim) : 0;
}

RowEncoder::RowEncoder(RowType type, uint32_t dim, ValueForm form)
    : type_(type), dim_(dim), form_(form), valueBytes_(valueBytesOf(type, dim, form)) {}

bool RowEncoder::encode(std::span<const std::byte> value, std::byte* row) const {
  if (type_ == RowType::kBytes) {
    std::copy_n(value.data(), value.size(), row);
    return true;
  }
  if (value.size() != valueBytes_) return false;
  if (type_ == RowType::kF32 || form_ == ValueForm::kStored) {
    std::memcpy(row, value.data(), value.size());
    return type_ != RowType::kInt8 || (isFiniteAt(row) && isFiniteAt(row + 4));
  }
  if (type_ == RowType::kInt8) return encodeInt8(value.data(), row);
  for (size_t i = 0; i < dim_; ++i) {
    const uint16_t half = halfOfFloat(floatAt(value.data() + i * sizeof(float)));
    std::memcpy(row + i * sizeof half, &half, sizeof half);
  }
  return true;
}

bool RowEncoder::encodeInt8(const std::byte* value, std::byte* row) const {
  float low = floatAt(value);
  float high = low;
  bool isFinite = true;
  for (size_t i = 0; i < dim_; ++i) {
    const std::byte* const at = value + i * sizeof(float);
    isFinite = isFinite && isFiniteAt(at);
    low = std::min(low, floatAt(at));
    high = std::max(high, floatAt(at));
  }
  const float range = high - low;
  if (!isFinite || !std::isfinite(range)) return false;
  std::memcpy(row, &low, sizeof low);
  std::memcpy(row + 4, &high, sizeof high);
  const double scale = range > 0 ? 255.0 / static_cast<double>(range) : 0;
  for (size_t i = 0; i < dim_; ++i) {
    const double distance =
        static_cast<double>(floatAt(value + i * sizeof(float))) - static_cast<double>(low);
    // The range was rounded, so the highest element may come out a little over 255.
    row[8 + i] = static_cast<std::byte>(std::min(static_cast<int>(distance * scale + 0.5), 255));
  }
  return true;
}

Status RowEncoder::problem(uint64_t key, std::span<const std::byte> value, const std::string& input) const {
  const std::string name = input + ": the value of key " + std::to_string(key);
  if (value.size() != valueBytes_) {
    const char* const form = form_ == ValueForm::kStored ? " as the table stores them" : "";
    return {code::kTableMismatch, name + " has " + std::to_string(value.size()) + " bytes, expected " +
                                      std::to_string(valueBytes_) + ": " + std::to_string(dim_) +
                                      (form_ == ValueForm::kFloats ? " floats" : " elements") + form};
  }
  for (size_t i = 0; form_ == ValueForm::kFloats && i < dim_; ++i) {
    if (isFiniteAt(value.data() + i * sizeof(float))) continue;
    return {code::kBadInputFile, name + " is NaN or infinite in element " + std::to_string(i) +
                                     ", expected numbers: rows are int8"};
  }
  return {code::kBadInputFile,
          name + (form_ == ValueForm::kFloats ? " spans a range beyond float32, which int8 rows cannot hold"
                                              : " has a minimum or maximum that is no number")};
}

}  // namespace onnx_serving
