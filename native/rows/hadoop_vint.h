#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace onnx_serving {

/**
 * Bytes of the variable-length integer (Hadoop's WritableUtils) that begins with `first`: 1 to 9.
 *
 * -112 to 127 stand for themselves; -113 to -120 announce 1 to 8 big-endian bytes of a number, -121 to -128
 * those of its complement.
 */
constexpr size_t hadoopVIntBytes(uint8_t first) {
  const auto sign = static_cast<int8_t>(first);
  if (sign >= -112) return 1;
  return static_cast<size_t>(sign >= -120 ? -111 - sign : -119 - sign);
}

/** The integer whose bytes these are: as many as `hadoopVIntBytes` of the first says. */
constexpr int64_t readHadoopVInt(std::span<const uint8_t> bytes) {
  const auto sign = static_cast<int8_t>(bytes[0]);
  if (sign >= -112) return sign;
  uint64_t magnitude = 0;
  for (const uint8_t byte : bytes.subspan(1)) magnitude = magnitude << 8 | byte;
  return static_cast<int64_t>(sign >= -120 ? magnitude : ~magnitude);
}

}  // namespace onnx_serving
