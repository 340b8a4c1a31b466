#pragma once

#include <node_api.h>

#include <cstdint>
#include <string>

namespace onnx_serving {

/** A JavaScript object that is filled property by property. */
class ObjectBuilder {
 public:
  explicit ObjectBuilder(napi_env env) : env_(env) { napi_create_object(env, &value_); }

  napi_value value() const { return value_; }

  /** A null value, which stands for a failed call, leaves the property out. */
  void set(const char* name, napi_value value) {
    if (value != nullptr) napi_set_named_property(env_, value_, name, value);
  }
  void setText(const char* name, const std::string& text) {
    napi_value value = nullptr;
    napi_create_string_utf8(env_, text.data(), text.size(), &value);
    set(name, value);
  }
  void setBoolean(const char* name, bool isTrue) {
    napi_value value = nullptr;
    napi_get_boolean(env_, isTrue, &value);
    set(name, value);
  }
  /** A number of JavaScript: exact up to 2^53. */
  void setNumber(const char* name, uint64_t number) {
    napi_value value = nullptr;
    napi_create_double(env_, static_cast<double>(number), &value);
    set(name, value);
  }
  void setBigInt(const char* name, uint64_t number) {
    napi_value value = nullptr;
    napi_create_bigint_uint64(env_, number, &value);
    set(name, value);
  }

 private:
  napi_env env_;
  napi_value value_ = nullptr;
};

}  // namespace onnx_serving
