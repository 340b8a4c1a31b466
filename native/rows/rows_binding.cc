#include "rows_binding.h"

#include <cstring>

#include "object_binding.h"

namespace onnx_serving {
namespace {

/** A typed array with room for `count` elements, and where they lie. */
napi_value typedArray(napi_env env, napi_typedarray_type type, size_t count, size_t elementBytes,
                      void** data) {
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  if (napi_create_arraybuffer(env, count * elementBytes, data, &buffer) != napi_ok ||
      napi_create_typedarray(env, type, count, buffer, 0, &array) != napi_ok) {
    return nullptr;
  }
  return array;
}

}  // namespace

napi_value rowsObject(napi_env env, const RowBatch& rows) {
  void* keys = nullptr;
  void* ends = nullptr;
  void* bytes = nullptr;
  const napi_value keysArray = typedArray(env, napi_biguint64_array, rows.rows(), sizeof(uint64_t), &keys);
  const napi_value endsArray = typedArray(env, napi_float64_array, rows.rows(), sizeof(double), &ends);
  const napi_value bytesArray = typedArray(env, napi_uint8_array, rows.bytes.size(), 1, &bytes);
  if (keysArray == nullptr || endsArray == nullptr || bytesArray == nullptr) return nullptr;
  if (rows.rows() > 0) std::memcpy(keys, rows.keys.data(), rows.rows() * sizeof(uint64_t));
  for (size_t row = 0; row < rows.rows(); ++row) {
    static_cast<double*>(ends)[row] = static_cast<double>(rows.ends[row]);
  }
  if (!rows.bytes.empty()) std::memcpy(bytes, rows.bytes.data(), rows.bytes.size());
  ObjectBuilder object(env);
  object.set("keys", keysArray);
  object.set("ends", endsArray);
  object.set("bytes", bytesArray);
  return object.value();
}

RowArrays::RowArrays(Arguments& arguments, size_t first) {
  const TypedArray keys = arguments.typedArray(first, "keys");
  const TypedArray ends = arguments.typedArray(first + 1, "ends");
  const std::span<const uint8_t> bytes = arguments.bytes(first + 2, "bytes");
  if (arguments.ok() && keys.type != napi_biguint64_array) arguments.refuse("keys is not a BigUint64Array");
  if (arguments.ok() && ends.type != napi_float64_array) arguments.refuse("ends is not a Float64Array");
  if (arguments.ok() && keys.length != ends.length) arguments.refuse("keys and ends differ in length");
  if (!arguments.ok()) return;
  keys_ = {static_cast<const uint64_t*>(keys.data), keys.length};
  ends_ = {static_cast<const double*>(ends.data), ends.length};
  bytes_ = std::as_bytes(bytes);
}

Status RowArrays::appendTo(RowBatch& out) const {
  size_t begin = 0;
  for (size_t row = 0; row < keys_.size(); ++row) {
    const double end = ends_[row];
    if (!(end >= static_cast<double>(begin) && end <= static_cast<double>(bytes_.size()))) {
      return Status(code::kInternal, "ends[" + std::to_string(row) +
                                         "] is less than the one before, or leads out of "
                                         "the bytes");
    }
    const auto next = static_cast<size_t>(end);
    out.append(keys_[row], bytes_.subspan(begin, next - begin));
    begin = next;
  }
  return {};
}

}  // namespace onnx_serving
