#pragma once

#include <cstddef>
#include <cstdint>

namespace onnx_serving {

/** What a build is planned from. */
struct BuildNeeds {
  /** Of the inputs; 0 where unknown. */
  uint64_t inputBytes;
  uint64_t shards;
  unsigned threads;
  uint64_t memoryLimit;
  /** Of a row on its way to its partition; the least where rows have lengths of their own. */
  uint64_t recordBytes;
};

/** How a build shares out its memory. */
struct BuildPlan {
  unsigned threads;
  uint64_t partitionsPerShard;
  /** Of each partition in each reading thread. */
  size_t bufferBytes;
  /** Records that a thread loads at once; a larger partition is built in parts. */
  uint64_t partBytes;
  /** Largest group. */
  uint64_t groupBytes;
  /** Most keys of a sample that counts different keys. */
  uint64_t sampleKeys;
};

/**
 * Cuts a build into partitions, so that all threads have work and each one's partition fits into its share of
 * the memory. Fewer threads where the buffers of all would be too small to write them to disk efficiently.
 */
BuildPlan planBuild(const BuildNeeds& needs);

}  // namespace onnx_serving
