#include "slab.h"

#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>

namespace onnx_serving {

SlabRegistry& SlabRegistry::instance() {
  alignas(SlabRegistry) static std::byte storage[sizeof(SlabRegistry)];
  static SlabRegistry& registry = *std::construct_at(reinterpret_cast<SlabRegistry*>(storage));
  return registry;
}

SlabRegistry::~SlabRegistry() {
  for (auto& [id, slab] : slabs_) munmap(slab.memory.data(), slab.memory.size());
}

Result<uint32_t> SlabRegistry::create(size_t bytes) {
  if (bytes == 0 || bytes > kMaxBytes) {
    return Status(code::kOutOfMemory, "slab: " + std::to_string(bytes) + " bytes asked for, expected 1 to " +
                                          std::to_string(kMaxBytes));
  }
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Status(code::kOutOfMemory, "slab: " + std::to_string(bytes) + " bytes could not be mapped: " +
                                          std::system_category().message(errno));
  }
  const std::lock_guard lock(mutex_);
  const uint32_t id = ++lastId_;
  slabs_.emplace(id, Slab{{static_cast<std::byte*>(memory), bytes}, 0, false});
  bytes_ += bytes;
  return id;
}

Result<std::span<std::byte>> SlabRegistry::hold(uint32_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = slabs_.find(id);
  if (it == slabs_.end() || it->second.isReleased) {
    return Status(code::kInternal, "slab " + std::to_string(id) + " is unknown or released");
  }
  ++it->second.holders;
  return it->second.memory;
}

bool SlabRegistry::isOpen(uint32_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = slabs_.find(id);
  return it != slabs_.end() && !it->second.isReleased;
}

void SlabRegistry::letGo(uint32_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = slabs_.find(id);
  if (it == slabs_.end() || it->second.holders == 0) return;
  --it->second.holders;
  unmapIfUnused(it);
}

bool SlabRegistry::release(uint32_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = slabs_.find(id);
  if (it == slabs_.end() || it->second.isReleased) return false;
  it->second.isReleased = true;
  unmapIfUnused(it);
  return true;
}

SlabRegistry::Stats SlabRegistry::stats() {
  const std::lock_guard lock(mutex_);
  return {slabs_.size(), bytes_};
}

void SlabRegistry::unmapIfUnused(std::map<uint32_t, Slab>::iterator it) {
  const Slab& slab = it->second;
  if (!slab.isReleased || slab.holders > 0) return;
  munmap(slab.memory.data(), slab.memory.size());
  bytes_ -= slab.memory.size();
  slabs_.erase(it);
}

}  // namespace onnx_serving
