#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../status.h"
#include "key_hash.h"

/**
 * The file of one shard of one table version.
 *
 * ```
 * header    one page of 4096 bytes; its last 8 bytes are the XXH64 of the rest
 * buckets   groups x groupBuckets buckets of `bucketBytes`, page-aligned
 * rows      only where rows are not in the buckets; page-aligned
 * deletes   u64 keys, ascending; only in a delta; page-aligned
 * checksums one XXH64 for every MiB from the end of the header to the beginning of this section, the last
 *           one for what is left; page-aligned
 * ```
 * Everything is little-endian. A bucket is one line of 64 bytes with eight keys, then eight payloads, then
 * padding to a multiple of 64 bytes. A payload is the row itself (`Placement::kInBucket`), or the byte offset
 * of the row in the rows section (`kBehind`). A row of bytes is a u32 length and the bytes, padded to 8.
 *
 * Empty slots of a bucket repeat its first key, so that no key value has to mean "empty": a lookup takes the
 * first match, and a bucket is full exactly if its last key differs from its first. All slots of an empty
 * bucket hold one key that belongs to neither this bucket nor, as its other, to it. Payloads of empty slots
 * are zero.
 */
namespace onnx_serving {

/** How the elements of a row are stored. The numbers are those of the file. */
enum class RowType : uint32_t {
  /** dim x float32. */
  kF32 = 0,
  /** dim x IEEE float16. */
  kF16 = 1,
  /** float32 min, float32 max, dim x u8: x = min + q x (max - min) / 255. */
  kInt8 = 2,
  /** A length of its own for each row. */
  kBytes = 3,
};

enum class ShardKind : uint32_t { kSnapshot = 0, kDelta = 1 };

/** Where a bucket's rows are. */
enum class Placement : uint32_t { kInBucket = 0, kBehind = 1 };

/** A run of bytes of the file. */
struct Section {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/** What the header of a shard file says. */
struct ShardHeader {
  static constexpr size_t kBytes = 4096;
  static constexpr size_t kPage = 4096;
  static constexpr size_t kChecksumBlock = size_t{1} << 20;
  static constexpr uint32_t kFormatVersion = 1;
  static constexpr uint32_t kMaxDim = 1u << 20;
  static constexpr uint32_t kMaxShards = 1u << 16;

  ShardKind kind = ShardKind::kSnapshot;
  RowType rowType = RowType::kF32;
  Placement placement = Placement::kInBucket;
  /** Elements a row; 0 for rows of bytes. */
  uint32_t dim = 0;
  uint32_t shard = 0;
  uint32_t shards = 1;
  /** Keys with a row. */
  uint64_t rows = 0;
  uint64_t deletes = 0;
  uint64_t hashSeed = 0;
  BucketGrid grid;
  Section buckets;
  Section rowData;
  Section deletedKeys;
  Section checksums;
  uint64_t fileBytes = 0;
  /** XXH64 of the checksums section: header and sections form one chain, so the header's hash is the file's.
   */
  uint64_t checksumsHash = 0;

  /** Bytes of a stored row; 0 for rows of bytes. */
  uint64_t rowBytes() const;
  /** Bytes of a slot's payload. */
  uint64_t payloadBytes() const { return placement == Placement::kInBucket ? rowBytes() : 8; }
  uint64_t bucketBytes() const;

  /** Sets the sections, one behind the other, for the counts and grid set before. */
  void layOut(uint64_t rowDataBytes);
  /** Writes the page, its hash included. */
  void encode(std::span<std::byte, kBytes> page) const;
  /** The file's digest: the hash in the last 8 bytes of the page. */
  static uint64_t digestOf(std::span<const std::byte, kBytes> page);
};

/**
 * Reads and checks a header: magic, version, byte order, hash, ranges of every field, and that the sections
 * have the sizes that the counts ask for, do not overlap and end with the file.
 *
 * @param path for messages
 * @param fileBytes the file's real size
 * @return SRV_TABLE_UNSUPPORTED for another format version or byte order, SRV_TABLE_CORRUPT otherwise, with
 *   path, byte offset, what was expected and what is there
 */
Result<ShardHeader> decodeHeader(const std::string& path, std::span<const std::byte> page,
                                 uint64_t fileBytes);

/** Bytes of a stored row of `dim` elements; 0 for rows of bytes. */
uint64_t storedRowBytes(RowType type, uint32_t dim);

/** Rows of up to this many bytes are in their buckets. Wider ones would waste too much in empty slots. */
inline constexpr uint64_t kMaxRowInBucket = 376;

/** Where rows of a type and width go. */
Placement placementOf(RowType type, uint32_t dim);

}  // namespace onnx_serving
