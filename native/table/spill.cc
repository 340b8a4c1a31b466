#include "spill.h"

#include <stdlib.h>

#include <cstring>

#include "positioned_io.h"

namespace onnx_serving {

SpillCounts& SpillCounts::operator+=(const SpillCounts& other) {
  rows += other.rows;
  deletes += other.deletes;
  rowBytes += other.rowBytes;
  deleteBytes += other.deleteBytes;
  return *this;
}

Result<SpillFile> SpillFile::create(const std::string& directory, size_t partitions) {
  std::string path = directory + "/spill-XXXXXX";
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return ioError("create", path, errno);
  unlink(path.c_str());
  return SpillFile(FileDescriptor::own(fd), "the spill file in " + directory, partitions);
}

Status SpillFile::append(size_t partition, std::span<const std::byte> block) {
  if (Status status = writeAt(file_.get(), name_, block, bytes_); !status.ok()) return status;
  blocks_[partition].push_back({bytes_, block.size()});
  bytes_ += block.size();
  return {};
}

Status SpillFile::read(const SpillBlock& block, std::byte* to) const {
  return readAt(file_.get(), name_, {to, static_cast<size_t>(block.bytes)}, block.offset);
}

Result<SpillWriter> SpillWriter::open(SpillFile& file, size_t partitions, size_t bufferBytes) {
  Result<MemoryBlock> memory = MemoryBlock::allocate(partitions * bufferBytes);
  if (!memory.ok()) return memory.status();
  return SpillWriter(file, std::move(memory.value()), partitions, bufferBytes);
}

void SpillWriter::beginInput(uint32_t input, bool isDelete) {
  input_ = input;
  isDelete_ = isDelete;
}

bool SpillWriter::beginSegment(size_t partition, size_t bytes) {
  Buffer& buffer = buffers_[partition];
  const size_t needed = sizeof(SegmentHead) + bytes;
  if (buffer.used + needed > bufferBytes_ && !flush(partition)) return false;
  if (needed > bufferBytes_) {
    if (largePartition_ != SIZE_MAX && !flush(largePartition_)) return false;
    Result<MemoryBlock> large = MemoryBlock::allocate(needed);
    if (!large.ok()) {
      status_ = large.status();
      return false;
    }
    large_ = std::move(large.value());
    largePartition_ = partition;
  }
  buffer.segment = buffer.used;
  buffer.input = input_;
  const SegmentHead head{input_, isDelete_ ? 1u : 0u, 0, 0};
  std::memcpy(base(partition) + buffer.used, &head, sizeof head);
  buffer.used += sizeof head;
  return true;
}

bool SpillWriter::flush(size_t partition) {
  Buffer& buffer = buffers_[partition];
  if (buffer.used == 0) return true;
  countRecords(partition);
  status_ = file_->append(partition, {base(partition), buffer.used});
  buffer = {};
  if (partition == largePartition_) {
    largePartition_ = SIZE_MAX;
    large_ = {};
  }
  return status_.ok();
}

void SpillWriter::countRecords(size_t partition) {
  SpillCounts& counts = counts_[partition];
  for (size_t at = 0; at < buffers_[partition].used;) {
    SegmentHead head;
    std::memcpy(&head, base(partition) + at, sizeof head);
    (head.isDelete ? counts.deletes : counts.rows) += head.records;
    (head.isDelete ? counts.deleteBytes : counts.rowBytes) += head.bytes;
    at += sizeof head + head.bytes;
  }
}

Status SpillWriter::finish() {
  for (size_t partition = 0; partition < buffers_.size(); ++partition) {
    if (!flush(partition)) return status_;
  }
  return {};
}

}  // namespace onnx_serving
