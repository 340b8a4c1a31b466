#include "read_ahead.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace onnx_serving {
namespace {

/** Asking the kernel what a thread read takes as long as the gather of some ten rows. */
constexpr size_t kKeysBetweenLooks = 2048;
/** A page from a disk costs some 100 us, reading ahead 0.6 us a key. */
constexpr size_t kKeysForPage = 128;

}  // namespace

uint64_t pagesReadByThread() {
#ifdef RUSAGE_THREAD
  struct rusage usage = {};
  (void)getrusage(RUSAGE_THREAD, &usage);
  // Input is in units of 512 bytes, whatever the disk.
  return static_cast<uint64_t>(usage.ru_majflt) + static_cast<uint64_t>(usage.ru_inblock) / 8;
#else
  return 0;
#endif
}

void readAhead(const std::byte* const* addresses, size_t count, size_t bytes) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (size_t i = 0; i < count; ++i) {
    if (addresses[i] == nullptr) continue;
    const auto address = reinterpret_cast<uintptr_t>(addresses[i]);
    const uintptr_t begin = address & ~(page - 1);
    (void)madvise(reinterpret_cast<void*>(begin), address + bytes - begin, MADV_WILLNEED);
  }
}

DiskWatch::Turn::Turn(DiskWatch& watch, size_t keys)
    : watch_(watch), keys_(keys), readsAhead_(watch.waits_.load(std::memory_order_relaxed)) {
  const size_t left = watch.keysUnwatched_.load(std::memory_order_relaxed);
  isWatched_ = left < keys;
  watch.keysUnwatched_.store(isWatched_ ? kKeysBetweenLooks : left - keys, std::memory_order_relaxed);
  if (isWatched_) pagesBefore_ = watch.pagesRead_();
}

DiskWatch::Turn::~Turn() {
  if (!isWatched_) return;
  const uint64_t pages = watch_.pagesRead_() - pagesBefore_;
  watch_.waits_.store(pages * kKeysForPage >= keys_ && pages > 0, std::memory_order_relaxed);
}

}  // namespace onnx_serving
