#include <charconv>
#include <string>

#include "../napi_support.h"
#include "id_hash.h"

namespace onnx_serving {
namespace {

/** Column number of texts that have none. */
constexpr double kNoColumn = -1;

/**
 * hashIds(texts, function, seed: bigint, modulus, column, slots, out: BigUint64Array): text i gets the
 * decimal number column + i % slots put before, and its key goes to out[i]
 */
napi_value hashIds(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "hashIds");
  const size_t function = arguments.size(1, "function");
  const size_t modulus = arguments.size(3, "modulus");
  double column = kNoColumn;
  if (arguments.ok() && napi_get_value_double(env, arguments.at(4), &column) != napi_ok)
    arguments.refuse("column is not a number");
  const size_t slots = arguments.size(5, "slots");
  const TypedArray out = arguments.typedArray(6, "out");
  uint64_t seed = 0;
  bool isExact = false;
  uint32_t count = 0;
  if (arguments.ok() &&
      (napi_get_value_bigint_uint64(env, arguments.at(2), &seed, &isExact) != napi_ok || !isExact)) {
    arguments.refuse("seed is not a bigint of 64 bits");
  }
  if (function < 1 || function > static_cast<size_t>(IdHash::kPython2))
    arguments.refuse("function is unknown");
  if (slots == 0) arguments.refuse("slots is 0");
  if (arguments.ok() && napi_get_array_length(env, arguments.at(0), &count) != napi_ok)
    arguments.refuse("texts is not an array");
  if (arguments.ok() && (out.type != napi_biguint64_array || out.length != count))
    arguments.refuse("out is not a BigUint64Array with an element for each text");
  if (!arguments.ok()) return arguments.raise();

  auto* const keys = static_cast<uint64_t*>(out.data);
  std::string text;
  for (uint32_t i = 0; i < count; ++i) {
    napi_value item;
    size_t length = 0;
    if (napi_get_element(env, arguments.at(0), i, &item) != napi_ok ||
        napi_get_value_string_utf8(env, item, nullptr, 0, &length) != napi_ok) {
      arguments.refuse("a text is not a string");
      return arguments.raise();
    }
    char prefix[24];
    size_t prefixLength = 0;
    if (column >= 0) {
      const auto number = static_cast<uint64_t>(column) + i % slots;
      prefixLength = static_cast<size_t>(std::to_chars(prefix, prefix + sizeof prefix, number).ptr - prefix);
    }
    text.assign(prefix, prefixLength);
    text.resize(prefixLength + length + 1);
    napi_get_value_string_utf8(env, item, text.data() + prefixLength, length + 1, &length);
    text.resize(prefixLength + length);
    keys[i] = idOfText(text, static_cast<IdHash>(function), seed, modulus);
  }
  return nullptr;
}

/**
 * placeIds(ids, stride, column, out: BigUint64Array, outStride, outColumn, modulus, rows): ids[i * stride +
 * column] becomes the key out[i * outStride + outColumn], for as many rows i as `out` has
 */
napi_value placeIds(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "placeIds");
  const TypedArray ids = arguments.typedArray(0, "ids");
  const size_t stride = arguments.size(1, "stride");
  const size_t column = arguments.size(2, "column");
  const TypedArray out = arguments.typedArray(3, "out");
  const size_t outStride = arguments.size(4, "outStride");
  const size_t outColumn = arguments.size(5, "outColumn");
  IdRule rule;
  rule.modulus = arguments.size(6, "modulus");
  rule.rows = arguments.size(7, "rows");
  const bool isWide = ids.type == napi_bigint64_array || ids.type == napi_biguint64_array;
  if (!isWide && ids.type != napi_int32_array) arguments.refuse("ids are not 32 or 64-bit integers");
  if (out.type != napi_biguint64_array) arguments.refuse("out is not a BigUint64Array");
  if (column >= stride || outColumn >= outStride) arguments.refuse("a column is outside of its row");
  if (arguments.ok() && (out.length % outStride != 0 || ids.length % stride != 0 ||
                         ids.length / stride != out.length / outStride)) {
    arguments.refuse("ids and out do not have the same rows");
  }
  if (!arguments.ok()) return arguments.raise();

  rule.isSigned = ids.type != napi_biguint64_array;
  auto* const keys = static_cast<uint64_t*>(out.data);
  const size_t count = out.length / outStride;
  for (size_t i = 0; i < count; ++i) {
    const size_t from = i * stride + column;
    const uint64_t id = isWide ? static_cast<const uint64_t*>(ids.data)[from]
                               : static_cast<uint64_t>(int64_t{static_cast<const int32_t*>(ids.data)[from]});
    keys[i * outStride + outColumn] = keyOfId(id, rule);
  }
  return nullptr;
}

}  // namespace

void exportIdHash(napi_env env, napi_value exports) {
  exportFunction(env, exports, "hashIds", hashIds);
  exportFunction(env, exports, "placeIds", placeIds);
}

}  // namespace onnx_serving
