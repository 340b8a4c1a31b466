#pragma once

// The rows and keys of the sparse benchmarks, the same in every program: a key tells its row, so each
// contestant can check what it was given.

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "../../native/table/row_input.h"

namespace onnx_serving::bench {

using Clock = std::chrono::steady_clock;

inline double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

[[noreturn]] inline void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

/** Key of row i: spread over all 64 bits, as hashed ids are. */
inline uint64_t keyOf(uint64_t i) {
  i += 0x9e3779b97f4a7c15u;
  i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
  i = (i ^ i >> 27) * 0x94d049bb133111ebu;
  return i ^ i >> 31;
}

/** The number that an odd one is multiplied with to give 1, by Newton's method. */
constexpr uint64_t inverseOf(uint64_t odd) {
  uint64_t inverse = odd;
  for (int step = 0; step < 6; ++step) inverse *= 2 - odd * inverse;
  return inverse;
}

/** The row of a key. */
inline uint64_t indexOf(uint64_t key) {
  key ^= key >> 31 ^ key >> 62;
  key *= inverseOf(0x94d049bb133111ebu);
  key ^= key >> 27 ^ key >> 54;
  key *= inverseOf(0xbf58476d1ce4e5b9u);
  key ^= key >> 30 ^ key >> 60;
  return key - 0x9e3779b97f4a7c15u;
}

/** Element d of row i. `add` is what a delta adds. */
inline float elementOf(uint64_t i, size_t d, float add) {
  return static_cast<float>(i % 1024) + static_cast<float>(d) + add;
}

inline void fillRow(uint64_t i, float add, std::span<float> row) {
  for (size_t d = 0; d < row.size(); ++d) row[d] = elementOf(i, d, add);
}

/** What each of the deltas of a table adds to its hundredth of the rows. */
inline constexpr float kDeltaAdd = 0.5f;

/** Rows [begin, end) made on the fly. */
class GeneratedRows : public RowSource {
 public:
  GeneratedRows(uint64_t begin, uint64_t end, uint32_t dim, float add)
      : at_(begin), end_(end), row_(dim), add_(add) {}

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    for (; at_ < end_ && !limit.isReached(out); ++at_) {
      fillRow(at_, add_, row_);
      out.append(keyOf(at_), std::as_bytes(std::span(row_)));
    }
    return {};
  }

 private:
  uint64_t at_;
  uint64_t end_;
  std::vector<float> row_;
  float add_;
};

/** Rows as indices: uniform, or Zipf(1.05) by inversion of the continuous distribution, where rank r is row
 * r. */
inline std::vector<uint64_t> queriedRows(uint64_t rows, bool isZipf, size_t count) {
  std::mt19937_64 random(isZipf ? 2 : 1);
  std::uniform_real_distribution<double> uniform(0, 1);
  constexpr double kExponent = -0.05;
  const double whole = (std::pow(static_cast<double>(rows), kExponent) - 1) / kExponent;
  std::vector<uint64_t> indices(count);
  for (uint64_t& index : indices) {
    if (!isZipf) {
      index = random() % rows;
      continue;
    }
    const double rank = std::pow(1 + uniform(random) * whole * kExponent, 1 / kExponent);
    index = std::min(rows - 1, static_cast<uint64_t>(rank - 1));
  }
  return indices;
}

inline std::vector<uint64_t> keysOf(std::span<const uint64_t> indices) {
  std::vector<uint64_t> keys(indices.size());
  std::transform(indices.begin(), indices.end(), keys.begin(), keyOf);
  return keys;
}

/** The keys of a file of 64-bit numbers, as `make_rows keys` writes it. */
inline std::vector<uint64_t> readKeys(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff bytes = file.tellg();
  if (!file || bytes <= 0) fail(path + " holds no keys");
  std::vector<uint64_t> keys(static_cast<size_t>(bytes) / sizeof(uint64_t));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(keys.data()), static_cast<std::streamsize>(keys.size() * 8)))
    fail(path + " cannot be read");
  return keys;
}

/**
 * Reads all that is mapped and keeps it in memory. Some machines take idle pages of files away although there
 * is room (DAMON), and what is asked here is not how fast the disk is. Without the right to do so: as it is.
 */
inline void holdPages() {
  if (mlockall(MCL_CURRENT) != 0) std::fprintf(stderr, "pages are not held: %s\n", std::strerror(errno));
}

/** Numbers that begin on a line of the cache. */
class AlignedFloats {
 public:
  explicit AlignedFloats(size_t count) : memory_(count + 16) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    data_ = reinterpret_cast<float*>((address + 63) / 64 * 64);
  }
  float* data() { return data_; }

 private:
  std::vector<float> memory_;
  float* data_;
};

}  // namespace onnx_serving::bench
