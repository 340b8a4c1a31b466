#pragma once

#include <cstddef>
#include <optional>
#include <utility>

namespace onnx_serving {

/**
 * Zeroed memory that begins on a huge page and that the kernel is asked to back with such: random reads then
 * hardly ever wait for page tables.
 */
class HugeMemory {
 public:
  /** Nothing where there is no memory. */
  static std::optional<HugeMemory> allocate(size_t bytes);

  HugeMemory() = default;
  HugeMemory(HugeMemory&& other) noexcept { swap(other); }
  HugeMemory& operator=(HugeMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;
  ~HugeMemory();

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  void swap(HugeMemory& other) {
    std::swap(mapping_, other.mapping_);
    std::swap(mappingBytes_, other.mappingBytes_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  void* mapping_ = nullptr;
  size_t mappingBytes_ = 0;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace onnx_serving
