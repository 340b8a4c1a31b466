#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../table/table_builder.h"
#include "../table/table_scan.h"
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
  for (uint64_t at = ShardHeader::kBytes, block = 0; at < sums.offset;
       at += ShardHeader::kChecksumBlock, ++block) {
    const uint64_t length = std::min<uint64_t>(ShardHeader::kChecksumBlock, sums.offset - at);
    const uint64_t sum = hashOf(std::span(file).subspan(at, length));
    std::memcpy(file.data() + sums.offset + 8 * block, &sum, 8);
  }
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

/** A snapshot without rows that deltas of these rows fit on; empty for the ninth kind of rows and later ones.
 */
std::string emptySnapshot(const ShardHeader& like) {
  static std::map<std::pair<RowType, uint32_t>, std::unique_ptr<MemoryFile>> made;
  const std::pair kind(like.rowType, like.dim);
  if (const auto found = made.find(kind); found != made.end()) return found->second->path();
  char directory[] = "/tmp/onnx-serving-fuzz-XXXXXX";
  if (made.size() == 8 || mkdtemp(directory) == nullptr) return {};
  TableBuildOptions options;
  options.directory = directory;
  options.rowType = like.rowType;
  options.dim = like.dim;
  options.allowsNoRows = true;
  BuildProgress progress;
  const Result<BuiltTable> built = buildTable(options, {}, progress);
  if (!built.ok()) std::abort();
  std::ifstream shard(options.directory + "/" + shardFileName(0, 1), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(shard), {});
  std::filesystem::remove_all(directory);
  const std::span content = std::as_bytes(std::span(bytes));
  made[kind] = std::make_unique<MemoryFile>(std::vector(content.begin(), content.end()));
  return made[kind]->path();
}

/** Looks up what a table holds, in every way. */
void readTable(const TableVersion& table, const std::vector<uint64_t>& keys) {
  (void)table.rows();
  for (const uint64_t key : keys) (void)table.find(key);
  const size_t dim = table.dim();
  if (dim == 0 || dim > 4096) return;
  std::vector<float> out(keys.size() * dim);
  std::vector<uint8_t> missing(keys.size());
  GatherRequest request;
  request.keys = keys;
  request.out = out;
  request.missing = missing;
  (void)table.gather(request);
  const std::vector<uint64_t> ends = {keys.size() / 2, keys.size()};
  request.combiner = Combiner::kMean;
  request.bagEnds = ends;
  request.out = std::span(out).first(2 * dim);
  (void)table.gather(request);
}

/** Folds a table as a compaction does, as far as memory. */
void scanTable(const std::shared_ptr<const TableVersion>& table) {
  RowBatch rows;
  for (const RowInput& input : scanInputs(table, ScanOf::kAll, nullptr, false)) {
    Result<std::unique_ptr<RowSource>> source = input.open();
    for (size_t turn = 0; source.ok() && turn < 50; ++turn) {
      rows.clear();
      Result<size_t> read = source.value()->read(rows, 100);
      if (!read.ok() || read.value() == 0) break;
    }
  }
  (void)compareTables(table, table);
}

}  // namespace

/** The first byte says whether the hashes are made right, how the file is opened, and as what. */
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> content(bytes + 1, bytes + size);
  if ((data[0] & 1) == 0) seal(content);
  const MemoryFile file(content);
  const Residence residence = (data[0] & 2) == 0 ? Residence::kMapped : Residence::kInMemory;
  Result<std::shared_ptr<ShardFile>> shard = ShardFile::open(file.path(), residence);
  if (!shard.ok()) return 0;
  (void)shard.value()->verify([](uint64_t) { return true; });

  TableFiles files;
  if (shard.value()->header().kind == ShardKind::kSnapshot) {
    files.snapshot = {file.path()};
  } else {
    files.snapshot = {emptySnapshot(shard.value()->header())};
    files.deltas = {{file.path()}};
    // Twice: the overlay takes changes of changes too.
    if ((data[0] & 4) == 0) files.deltas.push_back({file.path()});
  }
  Result<std::shared_ptr<const TableVersion>> table = TableVersion::open(files, residence);
  if (!table.ok()) return 0;
  std::vector<uint64_t> keys = {0, 1, UINT64_MAX};
  RowCursor cursor(*shard.value());
  uint64_t key;
  const std::byte* row;
  while (cursor.next(key, row) && keys.size() < 1000) {
    keys.push_back(key);
    if (row != nullptr) (void)table.value()->storedRow(row);
  }
  readTable(*table.value(), keys);
  scanTable(table.value());
  return 0;
}
