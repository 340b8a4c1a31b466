#pragma once

#include <node_api.h>

#include <memory>
#include <string>
#include <utility>

#include "../napi_support.h"

namespace onnx_serving {

/**
 * A JavaScript value that holds a share of a native object until it is collected.
 *
 * @param tag one for each T: tells handles apart, so that a wrong one is refused
 */
template <class T>
napi_value makeHandle(napi_env env, const napi_type_tag& tag, std::shared_ptr<T> object) {
  napi_value handle = nullptr;
  auto share = std::make_unique<std::shared_ptr<T>>(std::move(object));
  const auto drop = [](napi_env, void* data, void*) {
    std::unique_ptr<std::shared_ptr<T>>(static_cast<std::shared_ptr<T>*>(data));
  };
  if (napi_create_object(env, &handle) != napi_ok ||
      napi_wrap(env, handle, share.get(), drop, nullptr, nullptr) != napi_ok) {
    return nullptr;
  }
  (void)share.release();
  return napi_type_tag_object(env, handle, &tag) == napi_ok ? handle : nullptr;
}

/** The object of a handle; null, with the arguments refused, for any other value. */
template <class T>
std::shared_ptr<T> handleArgument(Arguments& arguments, size_t index, const char* name,
                                  const napi_type_tag& tag) {
  napi_valuetype type = napi_undefined;
  bool isOurs = false;
  void* share = nullptr;
  const napi_env env = arguments.env();
  const napi_value value = arguments.at(index);
  if (!arguments.ok()) return nullptr;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, value, &tag, &isOurs) != napi_ok || !isOurs ||
      napi_unwrap(env, value, &share) != napi_ok) {
    arguments.refuse(std::string(name) + " is not a handle of this kind");
    return nullptr;
  }
  return *static_cast<std::shared_ptr<T>*>(share);
}

}  // namespace onnx_serving
