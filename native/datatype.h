#pragma once

#include <cstddef>
#include <cstdint>

namespace onnx_serving {

/** `TensorProto.DataType` of onnx.proto, for the datatypes that JSON text can carry. */
enum class Datatype : int32_t {
  kFp32 = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFp64 = 11,
  kUint32 = 12,
  kUint64 = 13,
};

/** Bytes of one element, or 0 for a number that is none of ours. */
constexpr size_t elementBytes(Datatype datatype) {
  switch (datatype) {
    case Datatype::kBool:
    case Datatype::kInt8:
    case Datatype::kUint8:
      return 1;
    case Datatype::kInt16:
    case Datatype::kUint16:
      return 2;
    case Datatype::kFp32:
    case Datatype::kInt32:
    case Datatype::kUint32:
      return 4;
    case Datatype::kFp64:
    case Datatype::kInt64:
    case Datatype::kUint64:
      return 8;
  }
  return 0;
}

/** A type without a value, to hand an element type to a generic lambda. */
template <class T>
struct TypeTag {
  using type = T;
};

/** Calls `use` with the TypeTag of a datatype's element; BOOL is `bool`. The datatype must be one of ours. */
template <class Use>
auto withElementType(Datatype datatype, Use use) {
  switch (datatype) {
    case Datatype::kFp32:
      break;
    case Datatype::kUint8:
      return use(TypeTag<uint8_t>{});
    case Datatype::kInt8:
      return use(TypeTag<int8_t>{});
    case Datatype::kUint16:
      return use(TypeTag<uint16_t>{});
    case Datatype::kInt16:
      return use(TypeTag<int16_t>{});
    case Datatype::kInt32:
      return use(TypeTag<int32_t>{});
    case Datatype::kInt64:
      return use(TypeTag<int64_t>{});
    case Datatype::kBool:
      return use(TypeTag<bool>{});
    case Datatype::kFp64:
      return use(TypeTag<double>{});
    case Datatype::kUint32:
      return use(TypeTag<uint32_t>{});
    case Datatype::kUint64:
      return use(TypeTag<uint64_t>{});
  }
  return use(TypeTag<float>{});
}

}  // namespace onnx_serving
