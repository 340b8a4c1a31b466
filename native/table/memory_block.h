#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <string>
#include <utility>

#include "../status.h"

namespace onnx_serving {

/**
 * A large piece of zeroed memory straight from the system: pages count only once they are touched, and all
 * are given back at the end, which an allocator does not promise.
 */
class MemoryBlock {
 public:
  /** SRV_OUT_OF_MEMORY. A block of 0 bytes is valid. */
  static Result<MemoryBlock> allocate(size_t bytes) {
    MemoryBlock block;
    if (bytes == 0) return block;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
      return Status(code::kOutOfMemory, "no memory for " + std::to_string(bytes) + " bytes");
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    block.data_ = static_cast<std::byte*>(memory);
    block.bytes_ = bytes;
    return block;
  }

  MemoryBlock() = default;
  MemoryBlock(MemoryBlock&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryBlock& operator=(MemoryBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  MemoryBlock(const MemoryBlock&) = delete;
  MemoryBlock& operator=(const MemoryBlock&) = delete;
  ~MemoryBlock() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace onnx_serving
