#include "row_format_binding.h"

namespace onnx_serving {
namespace {

/** Reads the properties of one object; the first that is not as it should be is refused. */
class Properties {
 public:
  Properties(Arguments& arguments, napi_value object) : arguments_(arguments), object_(object) {}

  template <class T>
  T choice(const char* name, T last) {
    uint32_t number = 0;
    const napi_value value = property(name);
    if (value == nullptr || napi_get_value_uint32(arguments_.env(), value, &number) != napi_ok ||
        number > static_cast<uint32_t>(last)) {
      refuse(name);
      return T{};
    }
    return static_cast<T>(number);
  }

  std::string string(const char* name) {
    size_t length = 0;
    const napi_value value = property(name);
    if (value == nullptr ||
        napi_get_value_string_utf8(arguments_.env(), value, nullptr, 0, &length) != napi_ok) {
      refuse(name);
      return {};
    }
    std::string text(length + 1, '\0');
    napi_get_value_string_utf8(arguments_.env(), value, text.data(), text.size(), &length);
    text.resize(length);
    if (text.find('\0') != std::string::npos) refuse(name);
    return text;
  }

  uint64_t key(const char* name) {
    uint64_t key = 0;
    bool isExact = false;
    const napi_value value = property(name);
    if (value == nullptr ||
        napi_get_value_bigint_uint64(arguments_.env(), value, &key, &isExact) != napi_ok || !isExact) {
      refuse(name);
    }
    return key;
  }

  bool boolean(const char* name) {
    bool isTrue = false;
    const napi_value value = property(name);
    if (value == nullptr || napi_get_value_bool(arguments_.env(), value, &isTrue) != napi_ok) refuse(name);
    return isTrue;
  }

  void refuse(const char* name) {
    arguments_.refuse(std::string("format.") + name + " is not what it should be");
  }

 private:
  napi_value property(const char* name) {
    napi_value value = nullptr;
    if (!arguments_.ok() || napi_get_named_property(arguments_.env(), object_, name, &value) != napi_ok) {
      return nullptr;
    }
    return value;
  }

  Arguments& arguments_;
  napi_value object_;
};

}  // namespace

RowFormat rowFormatArgument(Arguments& arguments, size_t index) {
  RowFormat format;
  napi_valuetype type = napi_undefined;
  if (!arguments.ok()) return format;
  if (napi_typeof(arguments.env(), arguments.at(index), &type) != napi_ok || type != napi_object) {
    arguments.refuse("format is not an object");
    return format;
  }
  Properties properties(arguments, arguments.at(index));
  format.format = properties.choice("format", InputFormat::kNpy);
  format.innerLengths = properties.choice("innerLengths", InnerLengths::kNo);
  format.values = properties.choice("values", ValueText::kHex);
  format.header = properties.choice("header", HeaderLine::kNo);
  const std::string delimiter = properties.string("delimiter");
  format.keyColumn = properties.string("keyColumn");
  format.firstKey = properties.key("firstKey");
  format.keysPath = properties.string("keysPath");
  format.rawBytes = properties.boolean("rawBytes");
  if (arguments.ok() && delimiter.size() != 1) properties.refuse("delimiter");
  if (arguments.ok()) format.delimiter = delimiter[0];
  return format;
}

std::string rowPathArgument(Arguments& arguments, size_t index, const char* name) {
  std::string path = arguments.string(index, name);
  if (path.find('\0') != std::string::npos) arguments.refuse(std::string(name) + " holds a NUL character");
  return path;
}

}  // namespace onnx_serving
