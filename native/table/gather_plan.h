#pragma once

#include <cstddef>
#include <cstdint>

#include "key_hash.h"
#include "overlay.h"
#include "shard_format.h"

namespace onnx_serving {

/** A shard as a lookup needs it: checked addresses and numbers, nothing owned. */
struct ShardView {
  const std::byte* buckets = nullptr;
  /** The rows section, for rows that are not in their buckets. */
  const std::byte* rowData = nullptr;
  uint64_t rowDataBytes = 0;
  BucketGrid grid;
  uint64_t hashSeed = 0;
};

/** How bags of rows become one. */
enum class Combiner : uint32_t { kNone = 0, kSum = 1, kMean = 2, kSqrtN = 3 };

/** All that a gather loop reads. Everything it points to outlives the call. */
struct GatherPlan {
  const ShardView* shards = nullptr;
  uint64_t shardCount = 1;
  uint64_t bucketBytes = 0;
  uint64_t payloadBytes = 0;
  /** Bytes of a stored row; 0 for rows of bytes. */
  uint64_t rowBytes = 0;
  RowType rowType = RowType::kF32;
  Placement placement = Placement::kInBucket;
  uint32_t dim = 0;
  /** Null without deltas. */
  const Overlay* overlay = nullptr;

  const uint64_t* keys = nullptr;
  size_t keyCount = 0;

  /** Where rows go, `dim` floats each; null for a lookup of addresses alone. */
  float* out = nullptr;
  /** What a missing key's row is: `dim` floats. Never null where `out` is not. */
  const float* defaultRow = nullptr;

  Combiner combiner = Combiner::kNone;
  /** With a combiner: bag b holds keys [bagEnds[b - 1], bagEnds[b]); the last end is keyCount. */
  const uint64_t* bagEnds = nullptr;
  size_t bagCount = 0;
  /** One for each key; null for ones. */
  const float* weights = nullptr;

  /** Addresses of rows, null for missing keys; where `out` is null. */
  const std::byte** rows = nullptr;
  /** Bit i % 8 of byte i / 8 is set for a missing key i; may be null. Cleared by the caller. */
  uint8_t* missing = nullptr;

  /** Asks for pages of the mapped files before they are touched (`readAhead`); null where they are in memory.
   */
  void (*readAhead)(const std::byte* const* addresses, size_t count, size_t bytes) = nullptr;
};

/** What a loop found. */
struct GatherCount {
  size_t missing = 0;
  /** Rows whose place lies outside the rows section: the file is damaged. They count as missing. */
  size_t damaged = 0;
};

/** The two keys-to-rows kernels of one instruction set. */
struct GatherKernels {
  const char* name;
  GatherCount (*gather)(const GatherPlan& plan);
};

/** The kernels of an instruction set: "avx512", "avx2" or "scalar"; null where this machine lacks it. */
const GatherKernels* gatherKernels(const char* name);
/** The fastest kernels of this machine. */
const GatherKernels& bestGatherKernels();

}  // namespace onnx_serving
