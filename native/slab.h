#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "status.h"

namespace onnx_serving {

/**
 * Anonymous memory that every thread of the process sees at the same address, found by number.
 *
 * A slab is unmapped when its creator has released it and nobody holds it any more. Thread-safe.
 */
class SlabRegistry {
 public:
  struct Stats {
    size_t slabs;
    size_t bytes;
  };

  static constexpr size_t kMaxBytes = (size_t{1} << 32) - 1;

  SlabRegistry() = default;
  SlabRegistry(const SlabRegistry&) = delete;
  SlabRegistry& operator=(const SlabRegistry&) = delete;
  ~SlabRegistry();

  /** The registry of this process. Never destroyed: finalisers may run after static destructors. */
  static SlabRegistry& instance();

  /** Maps `bytes` (1 to kMaxBytes) of zeroed memory, held by its creator until `release`. */
  Result<uint32_t> create(size_t bytes);

  /** Adds a holder, who owes one `letGo`. Fails for a slab that is unknown or released. */
  Result<std::span<std::byte>> hold(uint32_t id);

  /** Whether the slab exists and its creator has not released it. */
  bool isOpen(uint32_t id);

  /** Ends one hold. */
  void letGo(uint32_t id);

  /** Ends the creator's hold; false when it had ended already. */
  bool release(uint32_t id);

  /** Slabs and bytes that are still mapped. */
  Stats stats();

 private:
  struct Slab {
    std::span<std::byte> memory;
    size_t holders;
    bool isReleased;
  };

  void unmapIfUnused(std::map<uint32_t, Slab>::iterator it);

  std::mutex mutex_;
  std::map<uint32_t, Slab> slabs_;
  size_t bytes_ = 0;
  uint32_t lastId_ = 0;
};

}  // namespace onnx_serving
