#include "crash_journal.h"
#include "napi_support.h"

namespace onnx_serving {
namespace {

napi_value openCrashJournal(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "openCrashJournal");
  const std::string path = arguments.string(0, "path");
  if (!arguments.ok()) return arguments.raise();
  const Status status = CrashJournal::open(path);
  return status.ok() ? nullptr : raise(env, status);
}

napi_value enterRun(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "enterRun");
  const size_t model = arguments.size(0, "model");
  if (model == 0 || model > UINT32_MAX) arguments.refuse("model is not a number from 1 to 2^32 - 1");
  if (!arguments.ok()) return arguments.raise();
  CrashJournal::enter(static_cast<uint32_t>(model));
  return nullptr;
}

napi_value leaveRun(napi_env, napi_callback_info) {
  CrashJournal::leave();
  return nullptr;
}

napi_value closeCrashJournal(napi_env, napi_callback_info) {
  CrashJournal::close();
  return nullptr;
}

}  // namespace

void exportCrashJournal(napi_env env, napi_value exports) {
  exportFunction(env, exports, "openCrashJournal", openCrashJournal);
  exportFunction(env, exports, "enterRun", enterRun);
  exportFunction(env, exports, "leaveRun", leaveRun);
  exportFunction(env, exports, "closeCrashJournal", closeCrashJournal);
}

}  // namespace onnx_serving
