#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "json_tensor.h"

namespace onnx_serving {
namespace {

char* append(char* to, std::string_view text) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

template <class T>
char* printElement(char* to, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {
      return append(to, std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
    }
    // "-0" is an integer to most readers, and integers have no negative zero.
    if (value == 0 && std::signbit(value)) return append(to, "-0.0");
  }
  return std::to_chars(to, to + kMaxElementText - 1, value).ptr;
}

template <class T>
char* printElements(char* to, const void* elements, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, bool>) {
      to = append(to, static_cast<const uint8_t*>(elements)[i] != 0 ? "true" : "false");
    } else {
      to = printElement(to, static_cast<const T*>(elements)[i]);
    }
    *to++ = ',';
  }
  return to;
}

char* printRun(char* to, Datatype datatype, const void* elements, size_t count) {
  return withElementType(
      datatype, [&](auto tag) { return printElements<typename decltype(tag)::type>(to, elements, count); });
}

/** Turns the last comma into the closing bracket. */
char* closeArray(char* to, size_t count) {
  if (count > 0) --to;
  *to++ = ']';
  return to;
}

}  // namespace

char* printTensorTo(char* to, Datatype datatype, const void* elements, size_t count) {
  *to++ = '[';
  return closeArray(printRun(to, datatype, elements, count), count);
}

std::string printTensor(Datatype datatype, const void* elements, size_t count) {
  constexpr size_t kRun = 256;
  char run[kRun * kMaxElementText];
  std::string text = "[";
  const size_t bytes = elementBytes(datatype);
  for (size_t done = 0; done < count; done += kRun) {
    const char* const runEnd = printRun(run, datatype, static_cast<const char*>(elements) + done * bytes,
                                        std::min(kRun, count - done));
    text.append(run, static_cast<size_t>(runEnd - run));
  }
  if (count > 0) text.pop_back();
  text += ']';
  return text;
}

}  // namespace onnx_serving
