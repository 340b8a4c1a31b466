#include "exchange_paths.h"
#include "napi_support.h"

namespace onnx_serving {
namespace {

napi_value exchangePathsSync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "exchangePaths");
  const std::string first = arguments.string(0, "first");
  const std::string second = arguments.string(1, "second");
  if (!arguments.ok()) return arguments.raise();
  Result<bool> exchanged = exchangePaths(first, second);
  if (!exchanged.ok()) return raise(env, exchanged.status());
  napi_value value = nullptr;
  napi_get_boolean(env, exchanged.value(), &value);
  return value;
}

}  // namespace

void exportExchangePaths(napi_env env, napi_value exports) {
  exportFunction(env, exports, "exchangePaths", exchangePathsSync);
}

}  // namespace onnx_serving
