#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../table/shard_format.h"

/** A shard file read in the plainest way: whole, key by key, home bucket then other bucket. */
class PlainShard {
 public:
  /** Ends the test unless header, checksums and every bucket are what the format asks for. */
  explicit PlainShard(const std::string& path);

  /** The stored row; absent where there is none. */
  std::optional<std::string> find(uint64_t key) const;
  /** All keys with their rows, as the buckets have them. */
  std::map<uint64_t, std::string> rows() const;
  std::vector<uint64_t> deletes() const;
  uint64_t digest() const;
  /** Keys that are in their other bucket. */
  uint64_t away() const { return away_; }
  const onnx_serving::ShardHeader& header() const { return header_; }

 private:
  std::optional<size_t> slotOf(uint64_t bucket, uint64_t key) const;
  uint64_t keyAt(uint64_t bucket, size_t slot) const;
  std::string rowAt(uint64_t bucket, size_t slot) const;
  size_t usedSlots(uint64_t bucket) const;
  void checkChecksums() const;
  void checkBucket(uint64_t bucket);

  std::string bytes_;
  onnx_serving::ShardHeader header_;
  uint64_t away_ = 0;
};
