#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace onnx_serving {

/**
 * Asks the kernel to bring `bytes` bytes behind each address of a mapped file into memory, and does not wait:
 * so the disk works on all of them at once, where page faults would come one after the other. Null addresses
 * are passed over.
 */
void readAhead(const std::byte* const* addresses, size_t count, size_t bytes);

/**
 * Pages that this thread read from a disk since it began, some of them counted twice. Input (`ru_inblock`) is
 * not counted for file systems without a block device, and pages that were asked for ahead are no major
 * faults; so the two are added up.
 */
uint64_t pagesReadByThread();

/**
 * Finds out whether gathers from a mapped table wait for the disk. Reading ahead is worth it only then: for
 * a page that is there it costs more than the gather of a row.
 *
 * Now and then a gather is watched: the pages that its thread read from a disk meanwhile, over its keys. For
 * any number of threads.
 */
class DiskWatch {
 public:
  /** @param pagesRead grows by the pages that the calling thread reads; another one in tests */
  explicit DiskWatch(uint64_t (*pagesRead)() = pagesReadByThread) : pagesRead_(pagesRead) {}

  /** One gather. */
  class Turn {
   public:
    Turn(DiskWatch& watch, size_t keys);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    /** Whether this gather should read ahead. */
    bool readsAhead() const { return readsAhead_; }

   private:
    DiskWatch& watch_;
    const size_t keys_;
    const bool readsAhead_;
    bool isWatched_ = false;
    uint64_t pagesBefore_ = 0;
  };

 private:
  uint64_t (*const pagesRead_)();
  /** A file that was just opened is likely not in memory. */
  std::atomic<bool> waits_{true};
  /** Keys until a gather is watched again. Threads may lose each other's counts, which does no harm. */
  std::atomic<size_t> keysUnwatched_{0};
};

}  // namespace onnx_serving
