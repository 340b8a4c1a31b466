#pragma once

// The most that this machine gives: rows at positions that are known before, fetched ahead and copied.
// Several distances and kinds of stores, of which the best counts.

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "bench_rows.h"

namespace onnx_serving::bench {

/** Copies `count` rows of `rowBytes` each, one behind the other, to `out`. */
using CopyKnown = void (*)(const std::byte* const* places, size_t count, size_t rowBytes, std::byte* out);

/** A way to copy, for the table of what was best. */
struct KnownVariant {
  const char* name;
  CopyKnown copy;
};

enum class Store { kCached, kStreamed };

template <Store kStore, size_t kBytes>
void copyRow(std::byte* to, const std::byte* from, size_t bytes) {
#if defined(__x86_64__)
  if constexpr (kStore == Store::kStreamed && kBytes % 16 == 0 && kBytes > 0) {
    for (size_t at = 0; at < kBytes; at += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
    return;
  }
#endif
  if constexpr (kBytes > 0)
    std::memcpy(to, from, kBytes);
  else
    std::memcpy(to, from, bytes);
}

/** `kBytes` is the width of a row, or 0 for any. Rows that do not begin on a line end on one more: `kEnds`
 * fetches it. */
template <size_t kAhead, Store kStore, bool kEnds, size_t kBytes>
void copyKnownOf(const std::byte* const* places, size_t count, size_t rowBytes, std::byte* out) {
  const size_t bytes = kBytes > 0 ? kBytes : rowBytes;
  const auto fetch = [&](const std::byte* place) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(place + at, 0, 3);
    if constexpr (kEnds) __builtin_prefetch(place + bytes - 1, 0, 3);
  };
  const size_t first = std::min(kAhead, count);
  for (size_t i = 0; i < first; ++i) fetch(places[i]);
  size_t i = 0;
  for (; i + kAhead < count; ++i) {
    fetch(places[i + kAhead]);
    copyRow<kStore, kBytes>(out + i * bytes, places[i], bytes);
  }
  for (; i < count; ++i) copyRow<kStore, kBytes>(out + i * bytes, places[i], bytes);
#if defined(__x86_64__)
  if constexpr (kStore == Store::kStreamed) _mm_sfence();
#endif
}

template <size_t kBytes>
std::vector<KnownVariant> knownVariantsOf() {
  return {
      {"16 ahead", copyKnownOf<16, Store::kCached, false, kBytes>},
      {"32 ahead", copyKnownOf<32, Store::kCached, false, kBytes>},
      {"64 ahead", copyKnownOf<64, Store::kCached, false, kBytes>},
      {"128 ahead", copyKnownOf<128, Store::kCached, false, kBytes>},
      {"256 ahead", copyKnownOf<256, Store::kCached, false, kBytes>},
      {"32 ahead, to their ends", copyKnownOf<32, Store::kCached, true, kBytes>},
      {"64 ahead, to their ends", copyKnownOf<64, Store::kCached, true, kBytes>},
      {"64 ahead, streamed", copyKnownOf<64, Store::kStreamed, false, kBytes>},
      {"128 ahead, streamed", copyKnownOf<128, Store::kStreamed, false, kBytes>},
  };
}

inline std::vector<KnownVariant> knownVariants(size_t rowBytes) {
  if (rowBytes == 64) return knownVariantsOf<64>();
  if (rowBytes == 256) return knownVariantsOf<256>();
  return knownVariantsOf<0>();
}

/**
 * Rows without any index, each on as few lines as it can be: in pages of 4 KiB, as a mapped file has them, or
 * in memory of huge pages. What a gather whose keys were positions would read.
 */
class PackedRows {
 public:
  PackedRows(uint64_t rows, size_t rowBytes, bool isMapped) : stride_(strideOf(rowBytes)) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t bytes = rows * stride_;
    bytes_ = isMapped ? bytes : bytes + kHugePage;
    if (isMapped) {
      // Shared pages of 4 KiB as those of a file, which nobody writes to a disk meanwhile.
      const int file = memfd_create("packed rows", 0);
      if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0)
        fail(std::string("packed rows: ") + std::strerror(errno));
      memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      close(file);
    } else {
      memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (memory_ == MAP_FAILED) fail(std::string("no memory for packed rows: ") + std::strerror(errno));
    auto address = reinterpret_cast<uintptr_t>(memory_);
    if (!isMapped) {
      address = (address + kHugePage - 1) / kHugePage * kHugePage;
      madvise(reinterpret_cast<void*>(address), bytes, MADV_HUGEPAGE);
    }
    rows_ = reinterpret_cast<std::byte*>(address);
    for (uint64_t i = 0; i < rows; ++i) std::memset(rows_ + i * stride_, static_cast<int>(i & 0x3f), stride_);
  }
  ~PackedRows() { munmap(memory_, bytes_); }
  PackedRows(const PackedRows&) = delete;
  PackedRows& operator=(const PackedRows&) = delete;

  const std::byte* row(uint64_t i) const { return rows_ + i * stride_; }

 private:
  static size_t strideOf(size_t rowBytes) {
    if (rowBytes >= 64) return (rowBytes + 63) / 64 * 64;
    size_t stride = 1;
    while (stride < rowBytes) stride *= 2;
    return stride;
  }

  size_t stride_;
  size_t bytes_ = 0;
  void* memory_ = nullptr;
  std::byte* rows_ = nullptr;
};

}  // namespace onnx_serving::bench
