#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../file_descriptor.h"
#include "../status.h"
#include "memory_block.h"

namespace onnx_serving {

/**
 * Rows on their way from the inputs to their partitions, on disk.
 *
 * Every reading thread has a file of its own, to which it appends blocks; a block belongs to one partition
 * and is a list of segments, each the records that one input gave. The files have no name: they go with the
 * process, however it ends.
 */

/** Head of a segment. Segments and records begin at multiples of 8 bytes. */
struct SegmentHead {
  uint32_t input;
  /** Whether the records are deleted keys. */
  uint32_t isDelete;
  uint64_t records;
  /** Of the records. */
  uint64_t bytes;
};

/** Where a block is. */
struct SpillBlock {
  uint64_t offset;
  uint64_t bytes;
};

/** What a partition received. */
struct SpillCounts {
  uint64_t rows = 0;
  uint64_t deletes = 0;
  /** Of the records. */
  uint64_t rowBytes = 0;
  uint64_t deleteBytes = 0;

  SpillCounts& operator+=(const SpillCounts& other);
};

/** One thread's file. */
class SpillFile {
 public:
  /** Makes a file without a name in a directory. SRV_IO. */
  static Result<SpillFile> create(const std::string& directory, size_t partitions);

  /** SRV_IO. For the one thread that fills it. */
  Status append(size_t partition, std::span<const std::byte> block);
  /** SRV_IO. For any thread, once the file is filled. */
  Status read(const SpillBlock& block, std::byte* to) const;

  std::span<const SpillBlock> blocksOf(size_t partition) const { return blocks_[partition]; }
  uint64_t bytes() const { return bytes_; }

 private:
  SpillFile(FileDescriptor file, std::string name, size_t partitions)
      : file_(std::move(file)), name_(std::move(name)), blocks_(partitions) {}

  FileDescriptor file_;
  /** For messages. */
  std::string name_;
  std::vector<std::vector<SpillBlock>> blocks_;
  uint64_t bytes_ = 0;
};

/** Collects records of one thread in a buffer for each partition. */
class SpillWriter {
 public:
  /** @param bufferBytes of each partition, a multiple of 8. SRV_OUT_OF_MEMORY */
  static Result<SpillWriter> open(SpillFile& file, size_t partitions, size_t bufferBytes);

  /** The records that follow are of this input; each input is begun once, in ascending order. */
  void beginInput(uint32_t input, bool isDelete);

  /**
   * Room for the next record of a partition; null when the disk failed, see `status`. The caller fills it
   * before the next call.
   *
   * @param bytes a multiple of 8
   */
  std::byte* add(size_t partition, size_t bytes) {
    Buffer& buffer = buffers_[partition];
    if (buffer.segment == kNoSegment || buffer.input != input_ || buffer.used + bytes > bufferBytes_) {
      if (!beginSegment(partition, bytes)) return nullptr;
    }
    auto* const head = reinterpret_cast<SegmentHead*>(base(partition) + buffer.segment);
    ++head->records;
    head->bytes += bytes;
    std::byte* const record = base(partition) + buffer.used;
    buffer.used += bytes;
    return record;
  }

  /** Writes all buffers out. The last call. */
  Status finish();
  const Status& status() const { return status_; }
  /** By partition; whole after `finish`. */
  std::span<const SpillCounts> counts() const { return counts_; }

 private:
  static constexpr size_t kNoSegment = SIZE_MAX;
  struct Buffer {
    size_t used = 0;
    size_t segment = kNoSegment;
    uint32_t input = 0;
  };

  SpillWriter(SpillFile& file, MemoryBlock memory, size_t partitions, size_t bufferBytes)
      : file_(&file),
        memory_(std::move(memory)),
        bufferBytes_(bufferBytes),
        buffers_(partitions),
        counts_(partitions) {}

  std::byte* base(size_t partition) {
    return partition == largePartition_ ? large_.data() : memory_.data() + partition * bufferBytes_;
  }
  bool beginSegment(size_t partition, size_t bytes);
  bool flush(size_t partition);
  void countRecords(size_t partition);

  SpillFile* file_;
  MemoryBlock memory_;
  size_t bufferBytes_;
  std::vector<Buffer> buffers_;
  std::vector<SpillCounts> counts_;
  uint32_t input_ = 0;
  bool isDelete_ = false;
  /** A record that no buffer holds has memory of its own, in the place of its partition's buffer. */
  MemoryBlock large_;
  size_t largePartition_ = SIZE_MAX;
  Status status_;
};

}  // namespace onnx_serving
