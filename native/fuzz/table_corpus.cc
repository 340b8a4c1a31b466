#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../table/shard_format.h"
#include "../xxh64.h"

/**
 * Writes the seeds of table_fuzz into the directory that its argument names: a control byte, then a shard
 * file of four buckets, which the builder would make larger. Needed again only when the format changes:
 *
 *   cd native && g++ -std=c++20 fuzz/table_corpus.cc table/shard_format.cc xxh64.cc -o /tmp/table_corpus
 *   /tmp/table_corpus fuzz/corpus/table
 */
namespace {

using namespace onnx_serving;
using Bytes = std::vector<std::byte>;

uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

template <class T>
void put(Bytes& file, uint64_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

/** Ten keys, nine of which want the same bucket; 0 and 2^64 - 1 among them. */
std::vector<uint64_t> chooseKeys(const ShardHeader& header) {
  const auto home = [&](uint64_t key) { return header.grid.home(hashKey(key, header.hashSeed)); };
  std::vector<uint64_t> keys = {0, UINT64_MAX};
  for (uint64_t key = 1; keys.size() < 10; ++key)
    if (home(key) == home(0)) keys.push_back(key);
  return keys;
}

/** A row as it is stored: small floats, or a length and text. */
Bytes rowOf(const ShardHeader& header, size_t number) {
  if (header.rowType == RowType::kBytes) {
    Bytes row(4 + (number * 3 + 7) / 8 * 8, static_cast<std::byte>('a' + number));
    const auto length = static_cast<uint32_t>(number * 3);
    std::memcpy(row.data(), &length, 4);
    row.resize((row.size() + 7) / 8 * 8);
    return row;
  }
  Bytes row(header.rowBytes(), static_cast<std::byte>(number));
  for (size_t at = 0; at + 4 <= row.size() && header.rowType != RowType::kInt8; at += 4) {
    const auto value = static_cast<float>(number + at);
    std::memcpy(row.data() + at, &value, 4);
  }
  const float range[2] = {-1, static_cast<float>(number)};
  if (header.rowType == RowType::kInt8) std::memcpy(row.data(), range, 8);
  return row;
}

Bytes makeShard(RowType type, uint32_t dim, uint64_t deletes) {
  ShardHeader header;
  header.rowType = type;
  header.dim = dim;
  header.kind = deletes > 0 ? ShardKind::kDelta : ShardKind::kSnapshot;
  header.placement = placementOf(type, dim);
  header.deletes = deletes;
  header.hashSeed = 7;
  const std::vector<uint64_t> keys = chooseKeys(header);
  header.rows = keys.size();
  Bytes rowData;
  std::vector<uint64_t> offsets;
  for (size_t i = 0; i < keys.size() && header.placement == Placement::kBehind; ++i) {
    const Bytes row = rowOf(header, i);
    offsets.push_back(rowData.size());
    rowData.insert(rowData.end(), row.begin(), row.end());
  }
  header.layOut(rowData.size());

  Bytes file(header.fileBytes);
  std::copy(rowData.begin(), rowData.end(),
            file.begin() + static_cast<std::ptrdiff_t>(header.rowData.offset));
  std::vector<std::vector<size_t>> buckets(header.grid.buckets());
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t hash = hashKey(keys[i], header.hashSeed);
    std::vector<size_t>& home = buckets[header.grid.home(hash)];
    (home.size() < BucketGrid::kBucketSlots ? home : buckets[header.grid.other(hash)]).push_back(i);
  }
  for (uint64_t number = 0; number < buckets.size(); ++number) {
    const uint64_t at = header.buckets.offset + number * header.bucketBytes();
    // A key from elsewhere for a bucket without any.
    uint64_t filler = 0;
    for (uint64_t hash; hash = hashKey(filler, header.hashSeed),
                        header.grid.home(hash) == number || header.grid.other(hash) == number;)
      ++filler;
    for (size_t slot = 0; slot < BucketGrid::kBucketSlots; ++slot) {
      const std::vector<size_t>& inside = buckets[number];
      put(file, at + 8 * slot,
          slot < inside.size() ? keys[inside[slot]]
          : inside.empty()     ? filler
                               : keys[inside[0]]);
      if (slot >= inside.size()) continue;
      const uint64_t payload = at + 64 + slot * header.payloadBytes();
      if (header.placement == Placement::kBehind) {
        put(file, payload, offsets[inside[slot]]);
      } else {
        const Bytes row = rowOf(header, inside[slot]);
        std::memcpy(file.data() + payload, row.data(), row.size());
      }
    }
  }
  for (uint64_t i = 0; i < deletes; ++i) put(file, header.deletedKeys.offset + 8 * i, 1000 + i);
  const std::span<const std::byte> content(file);
  for (uint64_t at = ShardHeader::kBytes, i = 0; at < header.checksums.offset;
       at += ShardHeader::kChecksumBlock, ++i) {
    const uint64_t length = std::min<uint64_t>(ShardHeader::kChecksumBlock, header.checksums.offset - at);
    put(file, header.checksums.offset + 8 * i, hashOf(content.subspan(at, length)));
  }
  header.checksumsHash = hashOf(content.subspan(header.checksums.offset, header.checksums.bytes));
  header.encode(std::span(file).first<ShardHeader::kBytes>());
  return file;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const std::string directory = arguments[1];
  std::filesystem::create_directories(directory);
  const auto write = [&](const char* name, RowType type, uint32_t dim, uint64_t deletes) {
    const Bytes file = makeShard(type, dim, deletes);
    std::ofstream seed(directory + "/" + name + ".bin", std::ios::binary);
    seed.put('\0');
    seed.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  };
  write("f32", RowType::kF32, 4, 0);
  write("f32-line", RowType::kF32, 16, 0);
  write("f16", RowType::kF16, 6, 0);
  write("int8", RowType::kInt8, 5, 0);
  write("bytes", RowType::kBytes, 0, 0);
  write("behind", RowType::kF32, 100, 0);
  write("delta", RowType::kF32, 4, 3);
  write("delta-bytes", RowType::kBytes, 0, 3);
  write("delta-behind", RowType::kF32, 100, 3);
  return 0;
}
