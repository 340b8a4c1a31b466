#include "huge_memory.h"

#include <sys/mman.h>

#include <cstdint>

namespace onnx_serving {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

std::optional<HugeMemory> HugeMemory::allocate(size_t bytes) {
  HugeMemory memory;
  // Room to begin on a huge page.
  const size_t mappingBytes = bytes + kHugePage;
  void* mapping = mmap(nullptr, mappingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return std::nullopt;
  memory.mapping_ = mapping;
  memory.mappingBytes_ = mappingBytes;
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(mapping) + kHugePage - 1) / kHugePage * kHugePage;
  memory.data_ = reinterpret_cast<std::byte*>(aligned);
  memory.bytes_ = bytes;
#ifdef MADV_HUGEPAGE
  (void)madvise(memory.data_, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

HugeMemory::~HugeMemory() {
  if (mapping_ != nullptr) munmap(mapping_, mappingBytes_);
}

}  // namespace onnx_serving
