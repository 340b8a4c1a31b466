#include <memory>

#include "napi_support.h"
#include "rows/rows_binding.h"
#include "slab.h"

namespace onnx_serving {
namespace {

void dropState(napi_env, void* data, void*) {
  const std::unique_ptr<EnvState> state(static_cast<EnvState*>(data));
  for (const uint32_t id : state->createdSlabs) SlabRegistry::instance().release(id);
}

/** init(makeError): takes the function that builds our errors. Once per environment, before anything else. */
napi_value init(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "init");
  EnvState* const state = stateOf(env);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, arguments.at(0), &type);
  if (type != napi_function) arguments.refuse("makeError is not a function");
  if (!arguments.ok()) return arguments.raise();
  if (state->errorFactory != nullptr) napi_delete_reference(env, state->errorFactory);
  napi_create_reference(env, arguments.at(0), 1, &state->errorFactory);
  return nullptr;
}

}  // namespace
}  // namespace onnx_serving

NAPI_MODULE_INIT() {
  using namespace onnx_serving;
  auto state = std::make_unique<EnvState>();
  if (napi_set_instance_data(env, state.get(), dropState, nullptr) != napi_ok) return nullptr;
  (void)state.release();
  exportFunction(env, exports, "init", init);
  exportCrashJournal(env, exports);
  exportExchangePaths(env, exports);
  exportSlab(env, exports);
  exportMappedFile(env, exports);
  exportJsonTensor(env, exports);
  exportRowReader(env, exports);
  exportSequenceStatistics(env, exports);
  exportSequenceWriter(env, exports);
  exportTable(env, exports);
  exportTableBuilder(env, exports);
  exportIdHash(env, exports);
  return exports;
}
