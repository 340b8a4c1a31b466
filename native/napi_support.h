#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "status.h"

namespace onnx_serving {

/** What the addon keeps for one environment (the main thread or a worker); gone with the environment. */
struct EnvState {
  /** The JavaScript function (code, message) => ServingError. */
  napi_ref errorFactory = nullptr;
  /** Weak references to this environment's ArrayBuffer of each slab. */
  std::unordered_map<uint32_t, napi_ref> slabViews;
  /** Slabs created here and not released yet. */
  std::unordered_set<uint32_t> createdSlabs;
};

/** The state of an environment, or null while it is being torn down. */
EnvState* stateOf(napi_env env);

/** The JavaScript error of a failed Status, built by the class of src/errors.ts. */
napi_value errorOf(napi_env env, const Status& status);

/** Throws a failed Status and returns null, for `return raise(...)` in a callback. */
napi_value raise(napi_env env, const Status& status);

/** Elements of a JavaScript typed array, seen from native code until the callback returns. */
struct TypedArray {
  napi_typedarray_type type;
  void* data;
  /** Elements, not bytes. */
  size_t length;
};

/**
 * The arguments of a call, checked for memory safety: each reader fails once, and after a failure all later
 * ones return empty values, so that one look at `ok` before the work is enough.
 */
class Arguments {
 public:
  static constexpr size_t kMax = 8;

  Arguments(napi_env env, napi_callback_info info, const char* function);

  bool ok() const { return problem_.ok(); }
  napi_env env() const { return env_; }
  napi_value at(size_t index) const { return values_[index]; }

  /** An integer from 0 to 2^53 - 1. */
  size_t size(size_t index, const char* name);
  bool boolean(size_t index, const char* name);
  std::string string(size_t index, const char* name);
  TypedArray typedArray(size_t index, const char* name);
  std::span<const uint8_t> bytes(size_t index, const char* name);

  /** Records what is wrong with an argument. */
  void refuse(const std::string& problem);
  /** Throws what was refused; for `return arguments.raise()`. */
  napi_value raise() const { return onnx_serving::raise(env_, problem_); }
  const Status& problem() const { return problem_; }

 private:
  napi_env env_;
  const char* function_;
  napi_value values_[kMax];
  Status problem_;
};

/** Work off the JavaScript thread. Only `result` may touch JavaScript values. */
class AsyncTask {
 public:
  virtual ~AsyncTask() = default;
  /** Runs on a thread of the pool. */
  virtual Status execute() = 0;
  /** Makes the value of the promise, on the JavaScript thread, after `execute` succeeded. */
  virtual napi_value result(napi_env env) = 0;
};

/**
 * Starts a task and returns its promise.
 *
 * @param kept values whose memory the task uses; they stay alive until it ends
 */
napi_value startTask(napi_env env, std::unique_ptr<AsyncTask> task, std::span<const napi_value> kept = {});

/** A promise that is rejected with `problem`: a function that returns promises never throws. */
napi_value rejected(napi_env env, const Status& problem);

/** Hands text to JavaScript as an ArrayBuffer, without a copy where external buffers are allowed. */
napi_value arrayBufferOf(napi_env env, std::unique_ptr<std::string> text);

/** Adds a function to the exports of the addon. */
void exportFunction(napi_env env, napi_value exports, const char* name, napi_callback callback);

void exportCrashJournal(napi_env env, napi_value exports);
void exportExchangePaths(napi_env env, napi_value exports);
void exportSlab(napi_env env, napi_value exports);
void exportMappedFile(napi_env env, napi_value exports);
void exportJsonTensor(napi_env env, napi_value exports);
void exportTable(napi_env env, napi_value exports);
void exportTableBuilder(napi_env env, napi_value exports);
void exportIdHash(napi_env env, napi_value exports);

}  // namespace onnx_serving
