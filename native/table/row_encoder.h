#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "shard_format.h"

namespace onnx_serving {

/** What the values of an input are. For rows of bytes both are the same. */
enum class ValueForm : uint8_t {
  /** Little-endian float32, one an element. */
  kFloats,
  /** What the table stores, such as quantised rows: float32 min, float32 max, one byte an element. */
  kStored,
};

/** The binary16 nearest to a float; ties to even, too large ones to infinity. NaN stays NaN. */
uint16_t halfOfFloat(float value);

/** Elements of a value of this length; 0 where no number of elements has it. */
uint32_t dimOfValue(RowType type, ValueForm form, size_t valueBytes);

/** Makes stored rows of values. Immutable; for any thread. */
class RowEncoder {
 public:
  /** @param dim 1 to ShardHeader::kMaxDim; 0 for rows of bytes */
  RowEncoder(RowType type, uint32_t dim, ValueForm form);

  /** Bytes that every value must have; 0 for rows of bytes, which take any. */
  size_t valueBytes() const { return valueBytes_; }

  /**
   * Writes the stored row of a value: storedRowBytes of them, or for rows of bytes the value itself.
   *
   * @return false for a value that cannot be stored, of which `problem` tells; `row` may then be partly
   *   written
   */
  bool encode(std::span<const std::byte> value, std::byte* row) const;

  /**
   * Why `encode` refused a value: SRV_TABLE_MISMATCH for a wrong length, SRV_BAD_INPUT_FILE for numbers that
   * int8 rows cannot hold: NaN, infinities, a range beyond float32.
   */
  Status problem(uint64_t key, std::span<const std::byte> value, const std::string& input) const;

 private:
  bool encodeInt8(const std::byte* value, std::byte* row) const;

  RowType type_;
  uint32_t dim_;
  ValueForm form_;
  size_t valueBytes_;
};

}  // namespace onnx_serving
