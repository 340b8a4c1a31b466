#pragma once

#include <atomic>
#include <cstdint>

namespace onnx_serving {

enum class BuildPhase : uint32_t { kReading = 0, kWriting = 1, kDone = 2 };

/** How far a build is, to be looked at from other threads, and the wish to end it. */
struct BuildProgress {
  std::atomic<BuildPhase> phase = BuildPhase::kReading;
  std::atomic<uint64_t> rowsRead = 0;
  /** Of inputs that were read to their end. */
  std::atomic<uint64_t> bytesRead = 0;
  std::atomic<uint64_t> bytesTotal = 0;
  std::atomic<uint64_t> partitionsDone = 0;
  std::atomic<uint64_t> partitionsTotal = 0;
  std::atomic<bool> isCancelled = false;
};

}  // namespace onnx_serving
