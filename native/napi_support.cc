#include "napi_support.h"

#include <cstring>
#include <utility>
#include <vector>

namespace onnx_serving {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

/** One running task with everything that JavaScript must not collect meanwhile. */
struct Running {
  std::unique_ptr<AsyncTask> task;
  std::vector<napi_ref> kept;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  Status status;
};

void execute(napi_env, void* data) {
  auto* running = static_cast<Running*>(data);
  running->status = running->task->execute();
}

void complete(napi_env env, napi_status workStatus, void* data) {
  const std::unique_ptr<Running> running(static_cast<Running*>(data));
  for (napi_ref reference : running->kept) napi_delete_reference(env, reference);
  napi_delete_async_work(env, running->work);
  if (workStatus != napi_ok && running->status.ok()) {
    running->status = Status(code::kInternal, "native work was cancelled");
  }
  // While an environment is torn down every call fails; then nobody waits for the promise either.
  napi_value value = running->status.ok() ? running->task->result(env) : nullptr;
  if (value != nullptr) {
    napi_resolve_deferred(env, running->deferred, value);
    return;
  }
  bool isPending = false;
  napi_is_exception_pending(env, &isPending);
  if (isPending) {
    napi_get_and_clear_last_exception(env, &value);
  } else {
    if (running->status.ok()) running->status = Status(code::kInternal, "native work gave no result");
    value = errorOf(env, running->status);
  }
  if (value != nullptr) napi_reject_deferred(env, running->deferred, value);
}

}  // namespace

EnvState* stateOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<EnvState*>(data);
}

napi_value errorOf(napi_env env, const Status& status) {
  const EnvState* const state = stateOf(env);
  napi_value arguments[2];
  napi_create_string_utf8(env, status.code(), NAPI_AUTO_LENGTH, &arguments[0]);
  napi_create_string_utf8(env, status.message().data(), status.message().size(), &arguments[1]);
  napi_value error = nullptr;
  if (state != nullptr && state->errorFactory != nullptr) {
    napi_value factory, global;
    if (napi_get_reference_value(env, state->errorFactory, &factory) == napi_ok &&
        napi_get_global(env, &global) == napi_ok &&
        napi_call_function(env, global, factory, 2, arguments, &error) == napi_ok) {
      return error;
    }
    return nullptr;
  }
  napi_create_error(env, arguments[0], arguments[1], &error);
  return error;
}

napi_value raise(napi_env env, const Status& status) {
  if (napi_value error = errorOf(env, status); error != nullptr) napi_throw(env, error);
  return nullptr;
}

Arguments::Arguments(napi_env env, napi_callback_info info, const char* function)
    : env_(env), function_(function) {
  size_t count = kMax;
  // Missing arguments are filled with undefined.
  if (napi_get_cb_info(env, info, &count, values_, nullptr, nullptr) != napi_ok) refuse("cannot be read");
}

void Arguments::refuse(const std::string& problem) {
  if (ok()) problem_ = Status(code::kInternal, std::string(function_) + ": " + problem);
}

size_t Arguments::size(size_t index, const char* name) {
  if (!ok()) return 0;
  double value;
  if (napi_get_value_double(env_, values_[index], &value) != napi_ok || !(value >= 0) ||
      value > kMaxSafeInteger || value != static_cast<double>(static_cast<uint64_t>(value))) {
    refuse(std::string(name) + " is not a non-negative integer");
    return 0;
  }
  return static_cast<size_t>(value);
}

bool Arguments::boolean(size_t index, const char* name) {
  bool value = false;
  if (ok() && napi_get_value_bool(env_, values_[index], &value) != napi_ok) {
    refuse(std::string(name) + " is not a boolean");
  }
  return value;
}

std::string Arguments::string(size_t index, const char* name) {
  size_t length = 0;
  if (!ok()) return {};
  if (napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length) != napi_ok) {
    refuse(std::string(name) + " is not a string");
    return {};
  }
  std::string text(length + 1, '\0');
  napi_get_value_string_utf8(env_, values_[index], text.data(), text.size(), &length);
  text.resize(length);
  return text;
}

TypedArray Arguments::typedArray(size_t index, const char* name) {
  TypedArray array{napi_int8_array, nullptr, 0};
  if (ok() && napi_get_typedarray_info(env_, values_[index], &array.type, &array.length, &array.data, nullptr,
                                       nullptr) != napi_ok) {
    refuse(std::string(name) + " is not a typed array");
    array = {napi_int8_array, nullptr, 0};
  }
  return array;
}

std::span<const uint8_t> Arguments::bytes(size_t index, const char* name) {
  const TypedArray array = typedArray(index, name);
  if (ok() && array.type != napi_uint8_array) refuse(std::string(name) + " is not a Uint8Array");
  if (!ok()) return {};
  return {static_cast<const uint8_t*>(array.data), array.length};
}

napi_value startTask(napi_env env, std::unique_ptr<AsyncTask> task, std::span<const napi_value> kept) {
  auto running = std::make_unique<Running>();
  running->task = std::move(task);
  napi_value promise, name;
  if (napi_create_promise(env, &running->deferred, &promise) != napi_ok ||
      napi_create_string_utf8(env, "onnx_serving", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_async_work(env, nullptr, name, execute, complete, running.get(), &running->work) !=
          napi_ok) {
    return raise(env, Status(code::kInternal, "native work could not be created"));
  }
  for (napi_value value : kept) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, value, 1, &reference) == napi_ok) running->kept.push_back(reference);
  }
  const bool isKept = running->kept.size() == kept.size();
  if (!isKept || napi_queue_async_work(env, running->work) != napi_ok) {
    for (napi_ref reference : running->kept) napi_delete_reference(env, reference);
    napi_delete_async_work(env, running->work);
    return raise(env, Status(code::kInternal, "native work could not be started"));
  }
  // From here on `complete` owns it.
  (void)running.release();
  return promise;
}

napi_value rejected(napi_env env, const Status& problem) {
  napi_deferred deferred;
  napi_value promise = nullptr;
  napi_value error = errorOf(env, problem);
  if (error != nullptr && napi_create_promise(env, &deferred, &promise) == napi_ok) {
    napi_reject_deferred(env, deferred, error);
  }
  return promise;
}

napi_value arrayBufferOf(napi_env env, std::unique_ptr<std::string> text) {
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, text->data(), text->size(),
      [](napi_env, void*, void* owner) { std::unique_ptr<std::string>(static_cast<std::string*>(owner)); },
      text.get(), &buffer);
  if (status == napi_ok) {
    (void)text.release();
    return buffer;
  }
  void* copy = nullptr;
  if (napi_create_arraybuffer(env, text->size(), &copy, &buffer) != napi_ok) return nullptr;
  std::memcpy(copy, text->data(), text->size());
  return buffer;
}

void exportFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok) {
    napi_set_named_property(env, exports, name, function);
  }
}

}  // namespace onnx_serving
