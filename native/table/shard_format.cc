#include "shard_format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../xxh64.h"

namespace onnx_serving {
namespace {

constexpr char kMagic[8] = {'O', 'S', 'R', 'V', 'T', 'B', 'L', '\n'};
constexpr uint32_t kByteOrder = 0x01020304;
constexpr uint32_t kSwappedByteOrder = 0x04030201;
constexpr size_t kHashOffset = ShardHeader::kBytes - 8;

// Byte offsets of the fields in the page.
enum Field : size_t {
  kMagicAt = 0,
  kByteOrderAt = 8,
  kVersionAt = 12,
  kKindAt = 16,
  kRowTypeAt = 20,
  kPlacementAt = 24,
  kDimAt = 28,
  kShardAt = 32,
  kShardsAt = 36,
  kRowsAt = 40,
  kDeletesAt = 48,
  kSeedAt = 56,
  kGroupsAt = 64,
  kGroupBucketsAt = 72,
  kBucketsAt = 80,
  kRowDataAt = 96,
  kDeletedKeysAt = 112,
  kChecksumsAt = 128,
  kFileBytesAt = 144,
  kChecksumsHashAt = 152,
  kEndOfFields = 160,
};

template <class T>
void put(std::span<std::byte> page, size_t at, T value) {
  std::memcpy(page.data() + at, &value, sizeof value);
}

template <class T>
T get(std::span<const std::byte> page, size_t at) {
  T value;
  std::memcpy(&value, page.data() + at, sizeof value);
  return value;
}

uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

uint64_t roundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

bool sameSection(const Section& a, const Section& b) { return a.offset == b.offset && a.bytes == b.bytes; }

Status corrupt(const std::string& path, size_t offset, const std::string& problem) {
  return {code::kTableCorrupt, path + ", byte " + std::to_string(offset) + ": " + problem};
}

}  // namespace

uint64_t storedRowBytes(RowType type, uint32_t dim) {
  switch (type) {
    case RowType::kF32:
      return uint64_t{4} * dim;
    case RowType::kF16:
      return uint64_t{2} * dim;
    case RowType::kInt8:
      return uint64_t{8} + dim;
    case RowType::kBytes:
      break;
  }
  return 0;
}

Placement placementOf(RowType type, uint32_t dim) {
  const bool inBucket = type != RowType::kBytes && storedRowBytes(type, dim) <= kMaxRowInBucket;
  return inBucket ? Placement::kInBucket : Placement::kBehind;
}

uint64_t ShardHeader::rowBytes() const { return storedRowBytes(rowType, dim); }

uint64_t ShardHeader::bucketBytes() const {
  return roundUp(BucketGrid::kBucketSlots * (8 + payloadBytes()), 64);
}

void ShardHeader::layOut(uint64_t rowDataBytes) {
  buckets = {kBytes, grid.buckets() * bucketBytes()};
  rowData = {roundUp(buckets.offset + buckets.bytes, kPage), rowDataBytes};
  deletedKeys = {roundUp(rowData.offset + rowData.bytes, kPage), deletes * 8};
  checksums.offset = roundUp(deletedKeys.offset + deletedKeys.bytes, kPage);
  checksums.bytes = (checksums.offset - kBytes + kChecksumBlock - 1) / kChecksumBlock * 8;
  fileBytes = checksums.offset + checksums.bytes;
}

void ShardHeader::encode(std::span<std::byte, kBytes> page) const {
  static_assert(std::endian::native == std::endian::little, "the file is written as memory has it");
  std::fill(page.begin(), page.end(), std::byte{0});
  std::memcpy(page.data() + kMagicAt, kMagic, sizeof kMagic);
  put(page, kByteOrderAt, kByteOrder);
  put(page, kVersionAt, kFormatVersion);
  put(page, kKindAt, static_cast<uint32_t>(kind));
  put(page, kRowTypeAt, static_cast<uint32_t>(rowType));
  put(page, kPlacementAt, static_cast<uint32_t>(placement));
  put(page, kDimAt, dim);
  put(page, kShardAt, shard);
  put(page, kShardsAt, shards);
  put(page, kRowsAt, rows);
  put(page, kDeletesAt, deletes);
  put(page, kSeedAt, hashSeed);
  put(page, kGroupsAt, grid.groups);
  put(page, kGroupBucketsAt, grid.groupBuckets);
  put(page, kBucketsAt, buckets);
  put(page, kRowDataAt, rowData);
  put(page, kDeletedKeysAt, deletedKeys);
  put(page, kChecksumsAt, checksums);
  put(page, kFileBytesAt, fileBytes);
  put(page, kChecksumsHashAt, checksumsHash);
  put(page, kHashOffset, hashOf(page.first(kHashOffset)));
}

uint64_t ShardHeader::digestOf(std::span<const std::byte, kBytes> page) {
  return get<uint64_t>(page, kHashOffset);
}

Result<ShardHeader> decodeHeader(const std::string& path, std::span<const std::byte> page,
                                 uint64_t fileBytes) {
  if (page.size() < ShardHeader::kBytes) {
    return corrupt(
        path, page.size(),
        "the file ends within the header, which has " + std::to_string(ShardHeader::kBytes) + " bytes");
  }
  page = page.first(ShardHeader::kBytes);
  if (std::memcmp(page.data() + kMagicAt, kMagic, sizeof kMagic) != 0)
    return corrupt(path, kMagicAt, "no shard of a table: the first 8 bytes are not OSRVTBL\\n");
  const auto byteOrder = get<uint32_t>(page, kByteOrderAt);
  if (byteOrder == kSwappedByteOrder) {
    return Status(code::kTableUnsupported, path + " was written by a big-endian machine");
  }
  if (byteOrder != kByteOrder) return corrupt(path, kByteOrderAt, "the byte order mark is damaged");
  const auto version = get<uint32_t>(page, kVersionAt);
  if (version != ShardHeader::kFormatVersion) {
    return Status(code::kTableUnsupported, path + " has format version " + std::to_string(version) +
                                               "; this software reads version " +
                                               std::to_string(ShardHeader::kFormatVersion));
  }
  if (get<uint64_t>(page, kHashOffset) != hashOf(page.first(kHashOffset)))
    return corrupt(path, kHashOffset, "the header does not have the hash that it carries");

  ShardHeader header;
  const auto kind = get<uint32_t>(page, kKindAt);
  const auto rowType = get<uint32_t>(page, kRowTypeAt);
  const auto placement = get<uint32_t>(page, kPlacementAt);
  if (kind > static_cast<uint32_t>(ShardKind::kDelta))
    return corrupt(path, kKindAt, "unknown kind " + std::to_string(kind));
  if (rowType > static_cast<uint32_t>(RowType::kBytes))
    return corrupt(path, kRowTypeAt, "unknown row type " + std::to_string(rowType));
  header.kind = static_cast<ShardKind>(kind);
  header.rowType = static_cast<RowType>(rowType);
  header.dim = get<uint32_t>(page, kDimAt);
  const bool hasDim = header.rowType != RowType::kBytes;
  if (hasDim ? header.dim == 0 || header.dim > ShardHeader::kMaxDim : header.dim != 0)
    return corrupt(path, kDimAt, "a dim of " + std::to_string(header.dim) + " does not fit the row type");
  header.placement = placementOf(header.rowType, header.dim);
  if (placement != static_cast<uint32_t>(header.placement))
    return corrupt(path, kPlacementAt, "rows of this width are not placed in this way");
  header.shard = get<uint32_t>(page, kShardAt);
  header.shards = get<uint32_t>(page, kShardsAt);
  if (header.shards == 0 || header.shards > ShardHeader::kMaxShards || header.shard >= header.shards)
    return corrupt(path, kShardAt,
                   "shard " + std::to_string(header.shard) + " of " + std::to_string(header.shards));

  header.rows = get<uint64_t>(page, kRowsAt);
  header.deletes = get<uint64_t>(page, kDeletesAt);
  header.hashSeed = get<uint64_t>(page, kSeedAt);
  header.grid = {get<uint64_t>(page, kGroupsAt), get<uint64_t>(page, kGroupBucketsAt)};
  header.checksumsHash = get<uint64_t>(page, kChecksumsHashAt);
  const auto rowData = get<Section>(page, kRowDataAt);
  // Each factor is bounded by the file's size, so that no product below overflows.
  const uint64_t mostBuckets = fileBytes / 64;
  if (header.grid.groups == 0 || header.grid.groups > mostBuckets)
    return corrupt(path, kGroupsAt, std::to_string(header.grid.groups) + " groups do not fit the file");
  if (header.grid.groupBuckets < BucketGrid::kMinGroupBuckets ||
      header.grid.groupBuckets > mostBuckets / header.grid.groups) {
    return corrupt(
        path, kGroupBucketsAt,
        std::to_string(header.grid.groupBuckets) + " buckets a group do not fit the file, or are too few");
  }
  if (header.grid.buckets() > fileBytes / header.bucketBytes())
    return corrupt(path, kBucketsAt, "the buckets are larger than the file");
  if (header.rows > header.grid.buckets() * BucketGrid::kBucketSlots)
    return corrupt(path, kRowsAt, std::to_string(header.rows) + " rows do not fit the buckets");
  if (header.deletes > fileBytes / 8 || (header.deletes > 0 && header.kind != ShardKind::kDelta))
    return corrupt(path, kDeletesAt, std::to_string(header.deletes) + " deletes");
  if (rowData.bytes > fileBytes || (rowData.bytes > 0 && header.placement == Placement::kInBucket))
    return corrupt(path, kRowDataAt, std::to_string(rowData.bytes) + " bytes of rows");

  header.layOut(rowData.bytes);
  if (!sameSection(header.buckets, get<Section>(page, kBucketsAt)) || !sameSection(header.rowData, rowData) ||
      !sameSection(header.deletedKeys, get<Section>(page, kDeletedKeysAt)) ||
      !sameSection(header.checksums, get<Section>(page, kChecksumsAt)) ||
      header.fileBytes != get<uint64_t>(page, kFileBytesAt)) {
    return corrupt(path, kBucketsAt, "the sections do not have the places that the counts ask for");
  }
  if (header.fileBytes != fileBytes) {
    return corrupt(path, std::min(fileBytes, header.fileBytes),
                   "the header asks for a file of " + std::to_string(header.fileBytes) + " bytes, it has " +
                       std::to_string(fileBytes));
  }
  return header;
}

}  // namespace onnx_serving
