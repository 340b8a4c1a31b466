#include "npy_elements.h"

#include <cstring>
#include <type_traits>

#include "../float16.h"

namespace onnx_serving {
namespace {

struct Half {
  uint16_t bits;
};

template <class T>
T elementAt(const std::byte* from, size_t index) {
  T element;
  std::memcpy(&element, from + index * sizeof(T), sizeof(T));
  return element;
}

float toFloat(Half half) { return floatOfHalf(half.bits); }
template <class T>
float toFloat(T value) {
  return static_cast<float>(value);
}

template <class T>
void convert(const std::byte* from, size_t count, std::byte* to) {
  for (size_t i = 0; i < count; ++i) {
    const float value = toFloat(elementAt<T>(from, i));
    std::memcpy(to + i * sizeof(float), &value, sizeof value);
  }
}

template <class T>
bool appendKeys(const std::byte* from, size_t count, std::vector<uint64_t>& out, size_t& bad) {
  for (size_t i = 0; i < count; ++i) {
    const T value = elementAt<T>(from, i);
    if constexpr (std::is_signed_v<T>) {
      if (value < 0) {
        bad = i;
        return false;
      }
    }
    out.push_back(static_cast<uint64_t>(value));
  }
  return true;
}

}  // namespace

void appendAsFloats(NpyType type, const std::byte* from, size_t count, std::vector<std::byte>& out) {
  if (type == NpyType::kF4) {
    out.insert(out.end(), from, from + count * sizeof(float));
    return;
  }
  const size_t before = out.size();
  out.resize(before + count * sizeof(float));
  std::byte* const to = out.data() + before;
  switch (type) {
    case NpyType::kF4:
      break;
    case NpyType::kF2:
      return convert<Half>(from, count, to);
    case NpyType::kF8:
      return convert<double>(from, count, to);
    case NpyType::kI1:
      return convert<int8_t>(from, count, to);
    case NpyType::kU1:
      return convert<uint8_t>(from, count, to);
    case NpyType::kI2:
      return convert<int16_t>(from, count, to);
    case NpyType::kU2:
      return convert<uint16_t>(from, count, to);
    case NpyType::kI4:
      return convert<int32_t>(from, count, to);
    case NpyType::kU4:
      return convert<uint32_t>(from, count, to);
    case NpyType::kI8:
      return convert<int64_t>(from, count, to);
    case NpyType::kU8:
      return convert<uint64_t>(from, count, to);
  }
}

bool appendAsKeys(NpyType type, const std::byte* from, size_t count, std::vector<uint64_t>& out,
                  size_t& bad) {
  switch (type) {
    case NpyType::kI1:
      return appendKeys<int8_t>(from, count, out, bad);
    case NpyType::kU1:
      return appendKeys<uint8_t>(from, count, out, bad);
    case NpyType::kI2:
      return appendKeys<int16_t>(from, count, out, bad);
    case NpyType::kU2:
      return appendKeys<uint16_t>(from, count, out, bad);
    case NpyType::kI4:
      return appendKeys<int32_t>(from, count, out, bad);
    case NpyType::kU4:
      return appendKeys<uint32_t>(from, count, out, bad);
    case NpyType::kI8:
      return appendKeys<int64_t>(from, count, out, bad);
    case NpyType::kU8:
      return appendKeys<uint64_t>(from, count, out, bad);
    case NpyType::kF2:
    case NpyType::kF4:
    case NpyType::kF8:
      break;
  }
  bad = 0;
  return false;
}

}  // namespace onnx_serving
