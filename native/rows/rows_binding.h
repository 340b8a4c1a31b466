#pragma once

#include "../napi_support.h"
#include "row_source.h"

namespace onnx_serving {

/** `{ keys: BigUint64Array, ends: Float64Array, bytes: Uint8Array }`, a copy; null when JavaScript has no
 * room. */
napi_value rowsObject(napi_env env, const RowBatch& rows);

/** Rows in typed arrays of JavaScript, which must stay as they are. */
class RowArrays {
 public:
  /** From three arguments: keys, ends, bytes, as of `rowsObject`. */
  RowArrays(Arguments& arguments, size_t first);

  size_t rows() const { return keys_.size(); }
  /** Appends all rows; SRV_INTERNAL when the ends decrease or lead out of the bytes. */
  Status appendTo(RowBatch& out) const;

 private:
  std::span<const uint64_t> keys_;
  std::span<const double> ends_;
  std::span<const std::byte> bytes_;
};

void exportRowReader(napi_env env, napi_value exports);
void exportSequenceStatistics(napi_env env, napi_value exports);
void exportSequenceWriter(napi_env env, napi_value exports);

}  // namespace onnx_serving
