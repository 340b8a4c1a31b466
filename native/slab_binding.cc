#include "napi_support.h"
#include "slab.h"

namespace onnx_serving {
namespace {

uint32_t slabId(Arguments& arguments) {
  const size_t id = arguments.size(0, "id");
  if (id > UINT32_MAX) arguments.refuse("id is not the number of a slab");
  return static_cast<uint32_t>(id);
}

void letGoOfView(napi_env, void*, void* hint) {
  SlabRegistry::instance().letGo(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(hint)));
}

napi_value createSlab(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "createSlab");
  const size_t bytes = arguments.size(0, "bytes");
  if (!arguments.ok()) return arguments.raise();
  Result<uint32_t> id = SlabRegistry::instance().create(bytes);
  if (!id.ok()) return raise(env, id.status());
  stateOf(env)->createdSlabs.insert(id.value());
  napi_value value = nullptr;
  napi_create_uint32(env, id.value(), &value);
  return value;
}

napi_value viewSlab(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "viewSlab");
  const uint32_t id = slabId(arguments);
  if (!arguments.ok()) return arguments.raise();
  EnvState& state = *stateOf(env);
  napi_value buffer = nullptr;
  const auto cached = state.slabViews.find(id);
  if (cached != state.slabViews.end()) {
    if (SlabRegistry::instance().isOpen(id)) napi_get_reference_value(env, cached->second, &buffer);
    if (buffer != nullptr) return buffer;
    napi_delete_reference(env, cached->second);
    state.slabViews.erase(cached);
  }

  Result<std::span<std::byte>> memory = SlabRegistry::instance().hold(id);
  if (!memory.ok()) return raise(env, memory.status());
  void* const hint = reinterpret_cast<void*>(static_cast<uintptr_t>(id));
  if (napi_create_external_arraybuffer(env, memory.value().data(), memory.value().size(), letGoOfView, hint,
                                       &buffer) != napi_ok) {
    SlabRegistry::instance().letGo(id);
    bool isPending = false;
    napi_is_exception_pending(env, &isPending);
    return isPending ? nullptr
                     : raise(env, Status(code::kInternal, "slab: no external buffers in this runtime"));
  }
  napi_ref reference = nullptr;
  if (napi_create_reference(env, buffer, 0, &reference) == napi_ok) state.slabViews.emplace(id, reference);
  return buffer;
}

napi_value releaseSlab(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "releaseSlab");
  const uint32_t id = slabId(arguments);
  if (!arguments.ok()) return arguments.raise();
  stateOf(env)->createdSlabs.erase(id);
  napi_value wasOpen = nullptr;
  napi_get_boolean(env, SlabRegistry::instance().release(id), &wasOpen);
  return wasOpen;
}

napi_value slabStats(napi_env env, napi_callback_info) {
  const SlabRegistry::Stats stats = SlabRegistry::instance().stats();
  napi_value object, slabs, bytes;
  napi_create_object(env, &object);
  napi_create_double(env, static_cast<double>(stats.slabs), &slabs);
  napi_create_double(env, static_cast<double>(stats.bytes), &bytes);
  napi_set_named_property(env, object, "slabs", slabs);
  napi_set_named_property(env, object, "bytes", bytes);
  return object;
}

napi_value externalBuffersAllowed(napi_env env, napi_callback_info) {
  static std::byte memory[8];
  napi_value buffer, isAllowed;
  const napi_status status = napi_create_external_arraybuffer(
      env, memory, sizeof memory, [](napi_env, void*, void*) {}, nullptr, &buffer);
  napi_get_boolean(env, status == napi_ok, &isAllowed);
  return isAllowed;
}

}  // namespace

void exportSlab(napi_env env, napi_value exports) {
  exportFunction(env, exports, "createSlab", createSlab);
  exportFunction(env, exports, "viewSlab", viewSlab);
  exportFunction(env, exports, "releaseSlab", releaseSlab);
  exportFunction(env, exports, "slabStats", slabStats);
  exportFunction(env, exports, "externalBuffersAllowed", externalBuffersAllowed);
}

}  // namespace onnx_serving
