#include "build_plan.h"

#include <algorithm>

namespace onnx_serving {
namespace {

constexpr uint64_t KiB = 1024;
constexpr uint64_t MiB = 1024 * KiB;

/** Small enough for few cache misses, large enough for few blocks. */
constexpr uint64_t kPartition = 32 * MiB;
/** Below this, threads are not worth their own partitions. */
constexpr uint64_t kSmallBuild = 16 * MiB;
/** What reading an input takes: a block of the file and a batch of rows. */
constexpr uint64_t kReading = 2 * MiB;
constexpr uint64_t kLeastBuffer = 4 * KiB;
constexpr uint64_t kGoodBuffer = 32 * KiB;
constexpr uint64_t kMostBuffer = 256 * KiB;
constexpr uint64_t kLeastPart = MiB;
/** Where the inputs do not say how large they are. */
constexpr uint64_t kUnknownInput = 4 * 1024 * MiB;
/** While it is built, a record has a sorted key and a place in a bucket beside it. */
constexpr uint64_t kBesideRecord = 24;

uint64_t divideUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

BuildPlan planFor(const BuildNeeds& needs, unsigned threads) {
  BuildPlan plan{};
  plan.threads = threads;
  // A quarter stays free for what is not counted: lists of blocks, stacks, the allocator's own.
  const uint64_t share = needs.memoryLimit / 4 * 3 / threads;
  plan.groupBytes = std::clamp<uint64_t>(share / 8, 256 * KiB, 16 * MiB);
  const uint64_t loading = std::max(share - std::min(share, plan.groupBytes), kLeastPart);
  plan.partBytes = std::max(loading * needs.recordBytes / (needs.recordBytes + kBesideRecord), kLeastPart);
  plan.sampleKeys = std::clamp<uint64_t>(plan.partBytes / 64, 4096, uint64_t{1} << 20);

  const uint64_t inputBytes = needs.inputBytes > 0 ? needs.inputBytes : kUnknownInput;
  // A partition differs from the mean, and the inputs' bytes are not exactly those of the records.
  const uint64_t target = std::min(kPartition, plan.partBytes / 4 * 3);
  plan.partitionsPerShard = std::max<uint64_t>(divideUp(divideUp(inputBytes, needs.shards), target), 1);
  if (inputBytes > kSmallBuild) {
    plan.partitionsPerShard =
        std::max(plan.partitionsPerShard, divideUp(uint64_t{2} * threads, needs.shards));
  }
  const uint64_t buffers = needs.shards * plan.partitionsPerShard;
  const uint64_t buffering = share - std::min(share, kReading);
  plan.bufferBytes = std::clamp(buffering / buffers / KiB * KiB, kLeastBuffer, kMostBuffer);
  return plan;
}

}  // namespace

BuildPlan planBuild(const BuildNeeds& needs) {
  unsigned threads = std::max(needs.threads, 1u);
  BuildPlan plan = planFor(needs, threads);
  while (plan.bufferBytes < kGoodBuffer && threads > 1) plan = planFor(needs, --threads);
  return plan;
}

}  // namespace onnx_serving
