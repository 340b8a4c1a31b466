#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "../table/table_version.h"
#include "../xxh64.h"

/** Reads arbitrary bytes as a shard file: opens, verifies, walks, gathers. Whatever they are, nothing may be
 * read outside of them. */
namespace {

using namespace onnx_serving;

constexpr size_t kHeaderHash = ShardHeader::kBytes - 8;
constexpr size_t kChecksumsHash = 152;

uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

void sealHeader(std::vector<std::byte>& file) {
  const uint64_t hash = hashOf(std::span(file).first(kHeaderHash));
  std::memcpy(file.data() + kHeaderHash, &hash, 8);
}

/** Makes the hashes right: no mutation would get past them otherwise. */
void seal(std::vector<std::byte>& file) {
  if (file.size() < ShardHeader::kBytes) return;
  sealHeader(file);
  Result<ShardHeader> header = decodeHeader("fuzz", file, file.size());
  if (!header.ok()) return;
  const Section& sums = header.value().checksums;
  const uint64_t hash = hashOf(std::span(file).subspan(sums.offset, sums.bytes));
  std::memcpy(file.data() + kChecksumsHash, &hash, 8);
  sealHeader(file);
}

/** A file in memory, by a path. */
class MemoryFile {
 public:
  explicit MemoryFile(const std::vector<std::byte>& bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  // The first byte says whether the hashes are made right.
  std::vector<std::byte> content(bytes + 1, bytes + size);
  if ((data[0] & 1) == 0) seal(content);
  const MemoryFile file(content);
  const Residence residence = (data[0] & 2) == 0 ? Residence::kMapped : Residence::kInMemory;
  Result<std::shared_ptr<ShardFile>> shard = ShardFile::open(file.path(), residence);
  if (!shard.ok()) return 0;
  (void)shard.value()->verify([](uint64_t) { return true; });

  // As a snapshot, or as a delta on top of nothing but itself.
  TableFiles files;
  files.snapshot = {file.path()};
  Result<std::shared_ptr<const TableVersion>> table = TableVersion::open(files, residence);
  if (!table.ok()) return 0;
  std::vector<uint64_t> keys = {0, 1, UINT64_MAX};
  RowCursor cursor(*shard.value());
  uint64_t key;
  const std::byte* row;
  while (cursor.next(key, row) && keys.size() < 5000) {
    keys.push_back(key);
    if (row != nullptr) (void)table.value()->storedRow(row);
  }
  for (const uint64_t one : keys) (void)table.value()->find(one);
  const size_t dim = table.value()->dim();
  if (dim == 0 || dim > 4096) return 0;
  std::vector<float> out(keys.size() * dim);
  GatherRequest request;
  request.keys = keys;
  request.out = out;
  (void)table.value()->gather(request);
  const std::vector<uint64_t> ends = {keys.size() / 2, keys.size()};
  request.combiner = Combiner::kMean;
  request.bagEnds = ends;
  request.out = std::span(out).first(2 * dim);
  (void)table.value()->gather(request);
  return 0;
}
