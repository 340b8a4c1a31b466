#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../file_descriptor.h"
#include "../status.h"
#include "../xxh64.h"
#include "shard_format.h"

namespace onnx_serving {

/**
 * Writes the file of a shard: regions in any order and by several threads, the header last, so that nothing
 * reads as a shard before it is whole.
 *
 * What a region writer hands over in order is hashed on the way; `finish` reads back only the blocks that two
 * regions share.
 */
class ShardWriter {
 public:
  /**
   * Creates the file; there must be none of this name.
   *
   * @param header laid out, with no rows and no deletes yet. SRV_IO
   */
  static Result<std::unique_ptr<ShardWriter>> create(std::string path, const ShardHeader& header);

  /** As given to `create`; after `finish` as written. */
  const ShardHeader& header() const { return header_; }

  /**
   * Writes deletes, checksums and header, and brings the file to the disk. After all region writers ended.
   *
   * @param deletes ascending, each once
   * @return the file's digest. SRV_IO
   */
  Result<uint64_t> finish(uint64_t rows, std::span<const uint64_t> deletes);

 private:
  friend class RegionWriter;
  ShardWriter(std::string path, FileDescriptor file, const ShardHeader& header);

  Status write(std::span<const std::byte> bytes, uint64_t offset);
  Status hashBlock(size_t block, std::span<std::byte> room);

  std::string path_;
  FileDescriptor file_;
  ShardHeader header_;
  /** By block of ShardHeader::kChecksumBlock; each is set by the one thread that wrote all of the block. */
  std::vector<uint64_t> checksums_;
  std::vector<uint8_t> isHashed_;
};

/** Writes a stretch of a shard's file from front to back. For one thread at a time. */
class RegionWriter {
 public:
  RegionWriter(ShardWriter& shard, uint64_t offset) : shard_(&shard), written_(offset) {}

  /** SRV_IO. Small pieces are collected. */
  Status append(std::span<const std::byte> bytes);
  /** Writes what was collected. */
  Status finish();
  /** Place in the file of the next byte. */
  uint64_t position() const { return written_ + collected_.size(); }

 private:
  Status writeOut(std::span<const std::byte> bytes);
  void hash(std::span<const std::byte> bytes);

  ShardWriter* shard_;
  /** Place in the file behind what was written. */
  uint64_t written_;
  std::vector<std::byte> collected_;
  Xxh64 hash_;
  /** Whether `hash_` has all bytes of the current block so far. */
  bool isHashing_ = false;
};

}  // namespace onnx_serving
