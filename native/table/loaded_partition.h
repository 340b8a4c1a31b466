#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "key_hash.h"
#include "memory_block.h"
#include "spill.h"
#include "spill_record.h"

namespace onnx_serving {

/** Consecutive groups of a shard. */
struct GroupRange {
  uint64_t seed;
  /** Of the shard. */
  uint64_t groups;
  uint64_t first;
  /** Behind the last. */
  uint64_t end;

  bool holds(uint64_t key) const {
    const uint64_t group = scaleHash(hashKey(key, seed), groups);
    return first <= group && group < end;
  }
};

/** The records of a partition, in memory and in the order of the inputs. Keeps its memory between loads. */
class LoadedPartition {
 public:
  explicit LoadedPartition(const SpillRecord& record) : record_(record) {}

  /**
   * Reads a partition, unless it is here already, or of a partition that is too large at once the records of
   * some groups. SRV_IO, SRV_OUT_OF_MEMORY.
   */
  Status load(std::span<const SpillFile> files, size_t partition, const std::optional<GroupRange>& only);

  /** Records that were loaded. */
  uint64_t records() const { return records_; }
  /** Calls `visit(record, isDelete)` in the order of the inputs. */
  template <class Visit>
  void forEach(Visit visit) const {
    for (const Segment& segment : segments_) {
      const std::byte* const end = memory_.data() + segment.end;
      const size_t step = segment.isDelete ? SpillRecord::kKeyBytes : record_.fixedBytes();
      for (const std::byte* at = memory_.data() + segment.begin; at < end;) {
        const std::byte* const record = at;
        at += step > 0 ? step : record_.bytesOf(record);
        visit(record, segment.isDelete);
      }
    }
  }

  /** A number for a record, for as long as it is loaded. */
  uint32_t numberOf(const std::byte* record) const {
    return static_cast<uint32_t>(static_cast<size_t>(record - memory_.data()) / kUnit);
  }
  const std::byte* recordOf(uint32_t number) const { return memory_.data() + size_t{number} * kUnit; }

 private:
  static constexpr size_t kUnit = 8;
  /** Records of one input, by place in the memory. */
  struct Segment {
    uint32_t input;
    bool isDelete;
    size_t begin;
    size_t end;
  };

  Status makeRoom(uint64_t bytes);
  size_t takeBlock(size_t begin, size_t end, const std::optional<GroupRange>& only);
  size_t keepRecords(size_t begin, size_t end, bool isDelete, size_t to, const GroupRange& only);

  SpillRecord record_;
  MemoryBlock memory_;
  std::vector<Segment> segments_;
  uint64_t records_ = 0;
  /** The partition that is here as a whole. */
  std::optional<size_t> whole_;
};

}  // namespace onnx_serving
