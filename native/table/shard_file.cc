#include "shard_file.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "../file_descriptor.h"
#include "../mapped_file_guard.h"
#include "../xxh64.h"

namespace onnx_serving {
namespace {

constexpr size_t kReadPiece = size_t{8} << 20;
/** Buckets, or rows, that are looked at between two questions whether to go on. */
constexpr uint64_t kLooksAtOnce = 16384;

Status ended(const std::string& path) { return {code::kCancelled, "the check of " + path + " was ended"}; }

Status corrupt(const std::string& path, uint64_t offset, const std::string& problem) {
  return {code::kTableCorrupt, path + ", byte " + std::to_string(offset) + ": " + problem};
}

uint64_t keyAt(const std::byte* bucket, size_t slot) {
  uint64_t key;
  std::memcpy(&key, bucket + 8 * slot, 8);
  return key;
}

uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

/** Slots of a bucket that hold keys; 0 for a bucket that is filled with a key from elsewhere. */
size_t usedSlots(const std::byte* bucket, uint64_t number, const ShardHeader& header) {
  const uint64_t first = keyAt(bucket, 0);
  const uint64_t hash = hashKey(first, header.hashSeed);
  if (header.grid.home(hash) != number && header.grid.other(hash) != number) return 0;
  size_t used = 1;
  while (used < BucketGrid::kBucketSlots && keyAt(bucket, used) != first) ++used;
  return used;
}

}  // namespace

Result<std::shared_ptr<ShardFile>> ShardFile::open(const std::string& path, Residence residence) {
  std::shared_ptr<ShardFile> shard(new ShardFile());
  shard->path_ = path;
  if (residence == Residence::kInMemory) {
    if (Status read = shard->readInto(path); !read.ok()) return read;
  } else {
    MapOptions options;
    options.advice = Advice::kRandom;
    shard->faultsBefore_ = MappedFileGuard::faults();
    Result<std::shared_ptr<MappedFile>> mapped = MappedFile::open(path, options);
    if (!mapped.ok()) return mapped.status();
    shard->mapped_ = std::move(mapped.value());
    shard->bytes_ = shard->mapped_->bytes();
  }
  Result<ShardHeader> header = decodeHeader(path, shard->bytes_, shard->bytes_.size());
  if (!header.ok()) return header.status();
  shard->header_ = header.value();
  shard->digest_ = ShardHeader::digestOf(shard->bytes_.first<ShardHeader::kBytes>());
  const Section& checksums = shard->header_.checksums;
  if (hashOf(shard->section(checksums)) != shard->header_.checksumsHash)
    return corrupt(path, checksums.offset, "the checksums do not have the hash that the header carries");
  return shard;
}

Status ShardFile::readInto(const std::string& path) {
  Result<FileDescriptor> file = FileDescriptor::openForReading(path);
  if (!file.ok()) return file.status();
  struct stat facts;
  if (fstat(file.value().get(), &facts) != 0) return ioError("look at", path, errno);
  const auto size = static_cast<size_t>(facts.st_size);
  if (size == 0) return {};
  std::optional<HugeMemory> memory = HugeMemory::allocate(size);
  if (!memory) return {code::kOutOfMemory, "no memory for the " + std::to_string(size) + " bytes of " + path};
  memory_ = std::move(*memory);
  std::byte* const start = memory_.data();
  for (size_t at = 0; at < size;) {
    const ssize_t count =
        pread(file.value().get(), start + at, std::min(size - at, kReadPiece), static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ioError("read", path, errno);
    if (count == 0) return corrupt(path, at, "the file became shorter while it was read");
    at += static_cast<size_t>(count);
  }
  (void)mprotect(start, size, PROT_READ);
  bytes_ = {start, size};
  return {};
}

bool ShardFile::hasLostPages() const {
  return mapped_ != nullptr && MappedFileGuard::hasLost(bytes_, faultsBefore_);
}

ShardView ShardFile::view() const {
  ShardView view;
  view.buckets = bytes_.data() + header_.buckets.offset;
  view.rowData = bytes_.data() + header_.rowData.offset;
  view.rowDataBytes = header_.rowData.bytes;
  view.grid = header_.grid;
  view.hashSeed = header_.hashSeed;
  return view;
}

std::span<const uint64_t> ShardFile::deletedKeys() const {
  // The section begins on a page.
  return {reinterpret_cast<const uint64_t*>(bytes_.data() + header_.deletedKeys.offset),
          static_cast<size_t>(header_.deletes)};
}

RowCursor::RowCursor(const ShardFile& shard)
    : header_(shard.header()), view_(shard.view()), used_(usedSlots(view_.buckets, 0, header_)) {}

bool RowCursor::next(uint64_t& key, const std::byte*& row) {
  const uint64_t bucketBytes = header_.bucketBytes();
  while (slot_ == used_) {
    slot_ = 0;
    if (++bucket_ >= header_.grid.buckets()) {
      bucket_ = header_.grid.buckets();
      used_ = 0;
      return false;
    }
    used_ = usedSlots(view_.buckets + bucket_ * bucketBytes, bucket_, header_);
  }
  const std::byte* bucket = view_.buckets + bucket_ * bucketBytes;
  key = keyAt(bucket, slot_);
  row = bucket + 64 + slot_ * header_.payloadBytes();
  ++slot_;
  if (header_.placement == Placement::kBehind) {
    uint64_t offset;
    std::memcpy(&offset, row, 8);
    const uint64_t least = header_.rowType == RowType::kBytes ? 8 : header_.rowBytes();
    const bool fits = offset <= view_.rowDataBytes && view_.rowDataBytes - offset >= least;
    row = fits ? view_.rowData + offset : nullptr;
  }
  return true;
}

Status ShardFile::verify(const std::function<bool(uint64_t bytesDone)>& goOn) const {
  const std::span<const std::byte> sums = section(header_.checksums);
  const uint64_t end = header_.checksums.offset;
  for (uint64_t at = ShardHeader::kBytes, block = 0; at < end; at += ShardHeader::kChecksumBlock, ++block) {
    if (!goOn(at)) return ended(path_);
    uint64_t expected;
    std::memcpy(&expected, sums.data() + 8 * block, 8);
    const uint64_t length = std::min<uint64_t>(ShardHeader::kChecksumBlock, end - at);
    const uint64_t actual = hashOf(bytes_.subspan(at, length));
    if (actual == expected) continue;
    return corrupt(path_, at,
                   "the block of " + std::to_string(length) + " bytes has the checksum " + hexDigits(actual) +
                       ", expected " + hexDigits(expected));
  }
  return checkBuckets(goOn);
}

Status ShardFile::checkBuckets(const std::function<bool(uint64_t)>& goOn) const {
  const uint64_t end = header_.checksums.offset;
  const ShardView shard = view();
  const uint64_t bucketBytes = header_.bucketBytes();
  uint64_t rows = 0;
  for (uint64_t number = 0; number < header_.grid.buckets(); ++number) {
    if (number % kLooksAtOnce == 0 && !goOn(end)) return ended(path_);
    const std::byte* bucket = shard.buckets + number * bucketBytes;
    const uint64_t offset = header_.buckets.offset + number * bucketBytes;
    const size_t used = usedSlots(bucket, number, header_);
    rows += used;
    for (size_t slot = 0; slot < BucketGrid::kBucketSlots; ++slot) {
      const uint64_t key = keyAt(bucket, slot);
      if (slot >= std::max<size_t>(used, 1)) {
        if (key != keyAt(bucket, 0))
          return corrupt(path_, offset + 8 * slot, "an empty slot holds a key of its own");
        continue;
      }
      if (used == 0) continue;
      const uint64_t hash = hashKey(key, header_.hashSeed);
      const uint64_t home = header_.grid.home(hash);
      if (shardOf(key, header_.shards) != header_.shard)
        return corrupt(path_, offset + 8 * slot, "key " + std::to_string(key) + " belongs to another shard");
      const bool isInOther = header_.grid.other(hash) == number;
      if (home != number && !isInOther)
        return corrupt(path_, offset + 8 * slot,
                       "key " + std::to_string(key) + " is in a bucket that is not its own");
      const std::byte* homeBucket = shard.buckets + home * bucketBytes;
      if (home != number && keyAt(homeBucket, 0) == keyAt(homeBucket, BucketGrid::kBucketSlots - 1))
        return corrupt(path_, offset + 8 * slot,
                       "key " + std::to_string(key) + " is in its other bucket, though its home has room");
    }
  }
  if (rows != header_.rows) {
    return corrupt(path_, header_.buckets.offset,
                   "the buckets hold " + std::to_string(rows) + " rows, the header says " +
                       std::to_string(header_.rows));
  }
  const std::span<const uint64_t> deletes = deletedKeys();
  if (!std::is_sorted(deletes.begin(), deletes.end()))
    return corrupt(path_, header_.deletedKeys.offset, "the deleted keys do not ascend");
  RowCursor cursor(*this);
  uint64_t key;
  const std::byte* row;
  for (uint64_t looks = 0; cursor.next(key, row); ++looks) {
    if (looks % kLooksAtOnce == 0 && !goOn(end)) return ended(path_);
    const std::byte* rowsEnd = shard.rowData + shard.rowDataBytes;
    if (row != nullptr && (header_.rowType != RowType::kBytes || !bytesOfRow(row, rowsEnd).isDamaged))
      continue;
    return corrupt(path_, header_.rowData.offset,
                   "the row of key " + std::to_string(key) + " reaches beyond the rows");
  }
  return {};
}

RowBytes bytesOfRow(const std::byte* row, const std::byte* end) {
  RowBytes result;
  uint32_t length;
  if (end - row < 4) return {{}, true};
  std::memcpy(&length, row, 4);
  if (static_cast<uint64_t>(end - row) - 4 < length) return {{}, true};
  result.bytes = {row + 4, length};
  return result;
}

}  // namespace onnx_serving
