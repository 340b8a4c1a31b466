#include "table_reader.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>

#include "../xxh64.h"
#include "check.h"

using namespace onnx_serving;

namespace {

constexpr size_t kSlots = BucketGrid::kBucketSlots;

template <class T>
T at(const std::string& bytes, uint64_t offset) {
  CHECK(offset + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

uint64_t hashOf(const std::string& bytes, uint64_t begin, uint64_t count) {
  CHECK(begin + count <= bytes.size());
  Xxh64 hash;
  hash.update(std::as_bytes(std::span(bytes.data() + begin, count)));
  return hash.digest();
}

ShardHeader headerOf(const std::string& bytes) {
  Result<ShardHeader> header = decodeHeader("shard", std::as_bytes(std::span(bytes)), bytes.size());
  if (!header.ok()) std::fprintf(stderr, "%s\n", header.status().message().c_str());
  CHECK(header.ok());
  return header.value();
}

}  // namespace

PlainShard::PlainShard(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good());
  bytes_.assign(std::istreambuf_iterator<char>(file), {});
  header_ = headerOf(bytes_);
  checkChecksums();
  for (uint64_t bucket = 0; bucket < header_.grid.buckets(); ++bucket) checkBucket(bucket);
  CHECK(rows().size() == header_.rows);
}

void PlainShard::checkChecksums() const {
  for (uint64_t i = 0; i < header_.checksums.bytes / 8; ++i) {
    const uint64_t begin = ShardHeader::kBytes + i * ShardHeader::kChecksumBlock;
    const uint64_t count = std::min<uint64_t>(ShardHeader::kChecksumBlock, header_.checksums.offset - begin);
    CHECK(at<uint64_t>(bytes_, header_.checksums.offset + 8 * i) == hashOf(bytes_, begin, count));
  }
  CHECK(header_.checksumsHash == hashOf(bytes_, header_.checksums.offset, header_.checksums.bytes));
}

void PlainShard::checkBucket(uint64_t bucket) {
  const size_t used = usedSlots(bucket);
  for (size_t slot = 0; slot < kSlots; ++slot) {
    const uint64_t key = keyAt(bucket, slot);
    const uint64_t hash = hashKey(key, header_.hashSeed);
    const uint64_t home = header_.grid.home(hash);
    if (slot >= used) {
      CHECK(key == keyAt(bucket, 0));
      CHECK(used > 0 || (home != bucket && header_.grid.other(hash) != bucket));
      for (uint64_t i = 0; i < header_.payloadBytes(); ++i) {
        CHECK(bytes_[header_.buckets.offset + bucket * header_.bucketBytes() + kSlots * 8 +
                     slot * header_.payloadBytes() + i] == 0);
      }
      continue;
    }
    CHECK(shardOf(key, header_.shards) == header_.shard);
    if (home == bucket) continue;
    ++away_;
    CHECK(header_.grid.other(hash) == bucket);
    CHECK(keyAt(home, kSlots - 1) != keyAt(home, 0));
  }
}

/** An empty bucket repeats a key too, one that does not belong there. */
size_t PlainShard::usedSlots(uint64_t bucket) const {
  const uint64_t first = keyAt(bucket, 0);
  const uint64_t hash = hashKey(first, header_.hashSeed);
  if (header_.grid.home(hash) != bucket && header_.grid.other(hash) != bucket) return 0;
  size_t used = 1;
  while (used < kSlots && keyAt(bucket, used) != first) ++used;
  return used;
}

uint64_t PlainShard::keyAt(uint64_t bucket, size_t slot) const {
  return at<uint64_t>(bytes_, header_.buckets.offset + bucket * header_.bucketBytes() + slot * 8);
}

std::string PlainShard::rowAt(uint64_t bucket, size_t slot) const {
  const uint64_t payload =
      header_.buckets.offset + bucket * header_.bucketBytes() + kSlots * 8 + slot * header_.payloadBytes();
  if (header_.placement == Placement::kInBucket) return bytes_.substr(payload, header_.rowBytes());
  const auto offset = at<uint64_t>(bytes_, payload);
  CHECK(offset < header_.rowData.bytes);
  const uint64_t place = header_.rowData.offset + offset;
  if (header_.rowType != RowType::kBytes) return bytes_.substr(place, header_.rowBytes());
  const auto length = at<uint32_t>(bytes_, place);
  CHECK(offset + 4 + length <= header_.rowData.bytes);
  return bytes_.substr(place + 4, length);
}

std::optional<size_t> PlainShard::slotOf(uint64_t bucket, uint64_t key) const {
  for (size_t slot = 0; slot < kSlots; ++slot) {
    if (keyAt(bucket, slot) == key) return slot;
  }
  return std::nullopt;
}

std::optional<std::string> PlainShard::find(uint64_t key) const {
  const uint64_t hash = hashKey(key, header_.hashSeed);
  const uint64_t home = header_.grid.home(hash);
  if (const auto slot = slotOf(home, key)) return rowAt(home, *slot);
  if (keyAt(home, kSlots - 1) == keyAt(home, 0)) return std::nullopt;
  const uint64_t other = header_.grid.other(hash);
  if (const auto slot = slotOf(other, key)) return rowAt(other, *slot);
  return std::nullopt;
}

std::map<uint64_t, std::string> PlainShard::rows() const {
  std::map<uint64_t, std::string> rows;
  for (uint64_t bucket = 0; bucket < header_.grid.buckets(); ++bucket) {
    for (size_t slot = 0; slot < usedSlots(bucket); ++slot) {
      CHECK(rows.emplace(keyAt(bucket, slot), rowAt(bucket, slot)).second);
    }
  }
  return rows;
}

std::vector<uint64_t> PlainShard::deletes() const {
  std::vector<uint64_t> keys;
  for (uint64_t i = 0; i < header_.deletes; ++i) {
    keys.push_back(at<uint64_t>(bytes_, header_.deletedKeys.offset + 8 * i));
    CHECK(i == 0 || keys[i - 1] < keys[i]);
  }
  return keys;
}

uint64_t PlainShard::digest() const {
  return ShardHeader::digestOf(std::as_bytes(std::span(bytes_)).subspan<0, ShardHeader::kBytes>());
}
