#include "shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "positioned_io.h"

namespace onnx_serving {
namespace {

constexpr size_t kCollectBytes = size_t{256} << 10;
constexpr size_t kBlock = ShardHeader::kChecksumBlock;

uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

size_t blocksOf(const ShardHeader& header) { return header.checksums.bytes / sizeof(uint64_t); }

}  // namespace

Result<std::unique_ptr<ShardWriter>> ShardWriter::create(std::string path, const ShardHeader& header) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ioError("create", path, errno);
  return std::unique_ptr<ShardWriter>(new ShardWriter(std::move(path), FileDescriptor::own(fd), header));
}

ShardWriter::ShardWriter(std::string path, FileDescriptor file, const ShardHeader& header)
    : path_(std::move(path)),
      file_(std::move(file)),
      header_(header),
      checksums_(blocksOf(header)),
      isHashed_(blocksOf(header)) {}

Status ShardWriter::write(std::span<const std::byte> bytes, uint64_t offset) {
  return writeAt(file_.get(), path_, bytes, offset);
}

Result<uint64_t> ShardWriter::finish(uint64_t rows, std::span<const uint64_t> deletes) {
  header_.rows = rows;
  header_.deletes = deletes.size();
  header_.layOut(header_.rowData.bytes);
  if (Status status = write(std::as_bytes(deletes), header_.deletedKeys.offset); !status.ok()) return status;
  // What no region covers reads as zeros.
  if (ftruncate(file_.get(), static_cast<off_t>(header_.checksums.offset)) != 0) {
    return ioError("write", path_, errno);
  }
  checksums_.resize(blocksOf(header_));
  isHashed_.resize(blocksOf(header_));
  std::vector<std::byte> room(kBlock);
  for (size_t block = 0; block < checksums_.size(); ++block) {
    if (isHashed_[block] != 0) continue;
    if (Status status = hashBlock(block, room); !status.ok()) return status;
  }
  const std::span<const std::byte> checksums = std::as_bytes(std::span<const uint64_t>(checksums_));
  header_.checksumsHash = hashOf(checksums);
  if (Status status = write(checksums, header_.checksums.offset); !status.ok()) return status;
  std::vector<std::byte> page(ShardHeader::kBytes);
  const std::span<std::byte, ShardHeader::kBytes> pageSpan(page.data(), ShardHeader::kBytes);
  header_.encode(pageSpan);
  if (Status status = write(page, 0); !status.ok()) return status;
  if (fsync(file_.get()) != 0) return ioError("write", path_, errno);
  return ShardHeader::digestOf(pageSpan);
}

Status ShardWriter::hashBlock(size_t block, std::span<std::byte> room) {
  const uint64_t begin = ShardHeader::kBytes + uint64_t{block} * kBlock;
  const auto bytes = static_cast<size_t>(std::min<uint64_t>(kBlock, header_.checksums.offset - begin));
  if (Status status = readAt(file_.get(), path_, room.first(bytes), begin); !status.ok()) return status;
  checksums_[block] = hashOf(room.first(bytes));
  return {};
}

Status RegionWriter::append(std::span<const std::byte> bytes) {
  if (collected_.size() + bytes.size() > kCollectBytes) {
    if (Status status = finish(); !status.ok()) return status;
  }
  if (bytes.size() >= kCollectBytes) return writeOut(bytes);
  collected_.insert(collected_.end(), bytes.begin(), bytes.end());
  return {};
}

Status RegionWriter::finish() {
  Status status = writeOut(collected_);
  collected_.clear();
  return status;
}

Status RegionWriter::writeOut(std::span<const std::byte> bytes) {
  if (Status status = shard_->write(bytes, written_); !status.ok()) return status;
  hash(bytes);
  return {};
}

void RegionWriter::hash(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t place = written_ - ShardHeader::kBytes;
    const size_t within = place % kBlock;
    if (within == 0) {
      hash_ = Xxh64();
      isHashing_ = true;
    }
    const size_t taken = std::min(bytes.size(), kBlock - within);
    if (isHashing_) hash_.update(bytes.first(taken));
    bytes = bytes.subspan(taken);
    written_ += taken;
    if (!isHashing_ || within + taken < kBlock) continue;
    shard_->checksums_[place / kBlock] = hash_.digest();
    shard_->isHashed_[place / kBlock] = 1;
  }
}

}  // namespace onnx_serving
