#pragma once

#include "../napi_support.h"
#include "row_format.h"

namespace onnx_serving {

/**
 * A RowFormat from a JavaScript object with all of: format, innerLengths, values, header (numbers in the
 * order of the enumerations), delimiter, keyColumn, keysPath (strings), firstKey (bigint), rawBytes
 * (boolean). Anything else is refused.
 */
RowFormat rowFormatArgument(Arguments& arguments, size_t index);

/** A number from 0 to `last` as a member of an enumeration. */
template <class T>
T choiceArgument(Arguments& arguments, size_t index, const char* name, T last) {
  const size_t choice = arguments.size(index, name);
  if (choice > static_cast<size_t>(last)) arguments.refuse(std::string(name) + " is unknown");
  return arguments.ok() ? static_cast<T>(choice) : T{};
}

/** A path: a string without NUL, where it would be cut and name another file. */
std::string rowPathArgument(Arguments& arguments, size_t index, const char* name);

}  // namespace onnx_serving
