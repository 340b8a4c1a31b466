#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "../mapped_file.h"
#include "gather_plan.h"
#include "huge_memory.h"
#include "shard_format.h"

namespace onnx_serving {

/** How a shard's bytes come into the address space. */
enum class Residence : uint32_t {
  /** Mapped: pages are shared between processes, come when they are touched, and may go again. */
  kMapped,
  /** Read into memory that the kernel backs with huge pages where it can. */
  kInMemory,
};

/** One shard of one version, open for reading from any thread; closed with its last owner. */
class ShardFile {
 public:
  /**
   * Opens a file and checks its header and the chain of its checksums, without touching its rows.
   *
   * @return SRV_IO, SRV_TABLE_CORRUPT, SRV_TABLE_UNSUPPORTED, or SRV_OUT_OF_MEMORY for kInMemory
   */
  static Result<std::shared_ptr<ShardFile>> open(const std::string& path, Residence residence);

  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  const std::string& path() const { return path_; }
  const ShardHeader& header() const { return header_; }
  /** The file's digest: the hash of its header, which holds the hash of its checksums. */
  uint64_t digest() const { return digest_; }
  /** Whether the mapped file was cut and its pages read as zeros now; never for one in memory. */
  bool hasLostPages() const;
  /** The shard as a lookup wants it; valid while this object lives. */
  ShardView view() const;
  /** Keys that a delta deletes, ascending. */
  std::span<const uint64_t> deletedKeys() const;

  /**
   * Compares every block with its checksum, then looks at every bucket: each key must be where a lookup finds
   * it, and the counts must be the header's. SRV_TABLE_CORRUPT with the byte offset of the first fault.
   *
   * @param goOn asked now and then; false ends the work with SRV_CANCELLED
   */
  Status verify(const std::function<bool(uint64_t bytesDone)>& goOn) const;

 private:
  ShardFile() = default;
  Status readInto(const std::string& path);
  Status checkBuckets(const std::function<bool(uint64_t)>& goOn) const;
  std::span<const std::byte> section(const Section& at) const { return bytes_.subspan(at.offset, at.bytes); }

  std::string path_;
  ShardHeader header_;
  uint64_t digest_ = 0;
  /** `MappedFileGuard::faults` before it was mapped. */
  uint64_t faultsBefore_ = 0;
  std::shared_ptr<MappedFile> mapped_;
  /** Of kInMemory. */
  HugeMemory memory_;
  std::span<const std::byte> bytes_;
};

/** Walks over the keys of a shard in the order of their buckets. */
class RowCursor {
 public:
  explicit RowCursor(const ShardFile& shard);
  /** The next key with the address of its row, null where the file is damaged. False at the end. */
  bool next(uint64_t& key, const std::byte*& row);

 private:
  const ShardHeader& header_;
  const ShardView view_;
  uint64_t bucket_ = 0;
  size_t slot_ = 0;
  size_t used_;
};

/** The bytes of a stored row; for rows of bytes those behind the length. Null `end` of the view: unbounded.
 */
struct RowBytes {
  std::span<const std::byte> bytes;
  bool isDamaged = false;
};

/** Reads a row of bytes at `row`, which lies in [begin, end): its length must end within. */
RowBytes bytesOfRow(const std::byte* row, const std::byte* end);

}  // namespace onnx_serving
