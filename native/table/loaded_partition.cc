#include "loaded_partition.h"

#include <algorithm>
#include <cstring>

namespace onnx_serving {

Status LoadedPartition::load(std::span<const SpillFile> files, size_t partition,
                             const std::optional<GroupRange>& only) {
  if (!only && whole_ == partition) return {};
  whole_.reset();
  segments_.clear();
  records_ = 0;
  uint64_t bytes = 0;
  for (const SpillFile& file : files) {
    for (const SpillBlock& block : file.blocksOf(partition)) bytes += block.bytes;
  }
  if (Status status = makeRoom(bytes); !status.ok()) return status;
  size_t used = 0;
  for (const SpillFile& file : files) {
    for (const SpillBlock& block : file.blocksOf(partition)) {
      if (Status status = file.read(block, memory_.data() + used); !status.ok()) return status;
      used = takeBlock(used, used + block.bytes, only);
    }
  }
  if (used / kUnit > UINT32_MAX) {
    return {code::kOutOfMemory, "a partition of the table has " + std::to_string(used) +
                                    " bytes, expected at most 32 GiB: one key may have too many rows"};
  }
  // Each input was read by one thread, so within an input the blocks are in order already.
  std::stable_sort(segments_.begin(), segments_.end(),
                   [](const Segment& a, const Segment& b) { return a.input < b.input; });
  if (!only) whole_ = partition;
  return {};
}

/** Room for the whole partition, even where some of it will be kept: what is not touched costs nothing. */
Status LoadedPartition::makeRoom(uint64_t bytes) {
  if (bytes <= memory_.size()) return {};
  memory_ = {};
  Result<MemoryBlock> memory = MemoryBlock::allocate(bytes + bytes / 8);
  if (!memory.ok()) return memory.status();
  memory_ = std::move(memory.value());
  return {};
}

/** Lists the segments of the block in [begin, end) and returns the end of what is kept of it. */
size_t LoadedPartition::takeBlock(size_t begin, size_t end, const std::optional<GroupRange>& only) {
  size_t to = begin;
  for (size_t at = begin; at < end;) {
    SegmentHead head;
    std::memcpy(&head, memory_.data() + at, sizeof head);
    const size_t first = at + sizeof head;
    at = first + head.bytes;
    const bool isDelete = head.isDelete != 0;
    if (!only) {
      segments_.push_back({head.input, isDelete, first, at});
      records_ += head.records;
      to = at;
      continue;
    }
    const size_t kept = keepRecords(first, at, isDelete, to, *only);
    if (kept > to) segments_.push_back({head.input, isDelete, to, kept});
    to = kept;
  }
  return to;
}

/** Moves the records of the groups down to `to`, and returns their end. */
size_t LoadedPartition::keepRecords(size_t begin, size_t end, bool isDelete, size_t to,
                                    const GroupRange& only) {
  std::byte* const memory = memory_.data();
  for (size_t at = begin; at < end;) {
    const size_t bytes = isDelete ? SpillRecord::kKeyBytes : record_.bytesOf(memory + at);
    if (only.holds(SpillRecord::keyOf(memory + at))) {
      std::memmove(memory + to, memory + at, bytes);
      to += bytes;
      ++records_;
    }
    at += bytes;
  }
  return to;
}

}  // namespace onnx_serving
