#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "shard_format.h"

namespace onnx_serving {

/**
 * How rows lie in spill files: the key, then the row as the table stores it (rows of bytes with their length
 * before them), padded to 8 bytes. A deleted key is the key alone.
 */
class SpillRecord {
 public:
  static constexpr size_t kKeyBytes = 8;
  /** Of rows of bytes. */
  static constexpr size_t kLengthBytes = 4;

  SpillRecord(RowType type, uint32_t dim)
      : rowBytes_(storedRowBytes(type, dim)),
        fixedBytes_(type == RowType::kBytes ? 0 : padded(kKeyBytes + rowBytes_)) {}

  /** Bytes of every record; 0 where rows have lengths of their own. */
  size_t fixedBytes() const { return fixedBytes_; }
  /** Bytes of the record of a value. */
  size_t bytesFor(size_t valueBytes) const {
    return fixedBytes_ > 0 ? fixedBytes_ : padded(kKeyBytes + kLengthBytes + valueBytes);
  }
  /** Bytes of a record in memory. */
  size_t bytesOf(const std::byte* record) const {
    if (fixedBytes_ > 0) return fixedBytes_;
    uint32_t length;
    std::memcpy(&length, record + kKeyBytes, sizeof length);
    return bytesFor(length);
  }
  /** Writes key, length and padding, and returns where the row goes. */
  std::byte* begin(std::byte* record, uint64_t key, size_t valueBytes) const {
    const size_t bytes = bytesFor(valueBytes);
    std::memset(record + bytes - 8, 0, 8);
    std::memcpy(record, &key, sizeof key);
    if (fixedBytes_ > 0) return record + kKeyBytes;
    const auto length = static_cast<uint32_t>(valueBytes);
    std::memcpy(record + kKeyBytes, &length, sizeof length);
    return record + kKeyBytes + kLengthBytes;
  }
  static uint64_t keyOf(const std::byte* record) {
    uint64_t key;
    std::memcpy(&key, record, sizeof key);
    return key;
  }
  /** The row as it goes behind the buckets: padded, and rows of bytes with their length. */
  std::span<const std::byte> paddedRow(const std::byte* record) const {
    return {record + kKeyBytes, bytesOf(record) - kKeyBytes};
  }

 private:
  static size_t padded(size_t bytes) { return (bytes + 7) / 8 * 8; }

  size_t rowBytes_;
  size_t fixedBytes_;
};

}  // namespace onnx_serving
