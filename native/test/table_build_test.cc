#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "../table/table_builder.h"
#include "check.h"
#include "table_reader.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

struct Rows {
  std::vector<std::pair<uint64_t, std::string>> rows;
  bool isDelete = false;
};

class ListSource : public RowSource {
 public:
  ListSource(const Rows& rows, const std::string& fault) : rows_(rows), fault_(fault) {}

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    for (; next_ < rows_.rows.size() && !limit.isReached(out); ++next_) {
      const auto& [key, value] = rows_.rows[next_];
      out.append(key, std::as_bytes(std::span(value)));
    }
    if (next_ == rows_.rows.size() && !fault_.empty()) return {code::kBadInputFile, fault_};
    return {};
  }

 private:
  const Rows& rows_;
  std::string fault_;
  size_t next_ = 0;
};

RowInput inputOf(const Rows& rows, const std::string& name, const std::string& fault = "") {
  RowInput input;
  input.name = name;
  input.isDelete = rows.isDelete;
  for (const auto& row : rows.rows) input.bytes += 16 + row.second.size();
  input.open = [&rows, fault]() -> Result<std::unique_ptr<RowSource>> {
    return std::unique_ptr<RowSource>(std::make_unique<ListSource>(rows, fault));
  };
  return input;
}

std::vector<RowInput> inputsOf(const std::vector<Rows>& lists) {
  std::vector<RowInput> inputs;
  for (const Rows& rows : lists) inputs.push_back(inputOf(rows, "list " + std::to_string(inputs.size())));
  return inputs;
}

/** A directory, removed at the end. */
class Directory {
 public:
  Directory() { CHECK(mkdtemp(path_.data()) != nullptr); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::string path_ = "/tmp/onnx-serving-build-XXXXXX";
};

std::string floatsOf(uint64_t key, uint32_t version, size_t dim) {
  std::vector<float> row(dim);
  for (size_t i = 0; i < dim; ++i) row[i] = static_cast<float>(key % 1000 + i) + static_cast<float>(version);
  return {reinterpret_cast<const char*>(row.data()), dim * sizeof(float)};
}

struct Expected {
  std::map<uint64_t, std::string> rows;
  std::set<uint64_t> deletes;
};

/** What the rule asks for: the last word on each key. */
Expected lastWords(const std::vector<Rows>& lists) {
  Expected expected;
  for (const Rows& list : lists) {
    for (const auto& [key, value] : list.rows) {
      if (list.isDelete) {
        expected.rows.erase(key);
        expected.deletes.insert(key);
      } else {
        expected.rows[key] = value;
        expected.deletes.erase(key);
      }
    }
  }
  return expected;
}

BuiltTable build(const TableBuildOptions& options, const std::vector<RowInput>& inputs) {
  BuildProgress progress;
  Result<BuiltTable> built = buildTable(options, inputs, progress);
  if (!built.ok()) std::fprintf(stderr, "%s\n", built.status().message().c_str());
  CHECK(built.ok());
  CHECK(progress.phase == BuildPhase::kDone && progress.partitionsDone == progress.partitionsTotal);
  CHECK(progress.bytesRead == progress.bytesTotal && built.value().shards.size() == options.shards);
  return std::move(built.value());
}

/** Reads all shards back and compares them with what is expected, lookups included. */
void checkTable(const TableBuildOptions& options, const BuiltTable& built, const Expected& expected) {
  std::map<uint64_t, std::string> rows;
  std::set<uint64_t> deletes;
  for (uint32_t i = 0; i < options.shards; ++i) {
    const BuiltShard& facts = built.shards[i];
    CHECK(facts.name == shardFileName(i, options.shards));
    const PlainShard shard(options.directory + "/" + facts.name);
    CHECK(std::filesystem::file_size(options.directory + "/" + facts.name) == facts.bytes);
    CHECK(shard.digest() == facts.digest);
    CHECK(shard.header().rows == facts.rows && shard.header().deletes == facts.deletes);
    CHECK(shard.header().kind == options.kind && shard.header().shard == i);
    CHECK(shard.header().hashSeed == built.hashSeed);
    for (const auto& [key, value] : shard.rows()) {
      CHECK(shard.find(key) == value);
      rows[key] = value;
    }
    for (uint64_t key = 1; key < 1000; ++key) {
      const uint64_t absent = key * 0x123456789abcdefu;
      CHECK(expected.rows.count(absent) > 0 || !shard.find(absent));
    }
    for (const uint64_t key : shard.deletes()) CHECK(deletes.insert(key).second);
  }
  CHECK(rows == expected.rows);
  CHECK(deletes == (options.kind == ShardKind::kDelta ? expected.deletes : std::set<uint64_t>()));
  CHECK(built.rows == rows.size() && built.deletes == deletes.size());
}

/** `lists` lists of rows; some keys come several times, within a list and across. */
std::vector<Rows> randomLists(size_t lists, size_t rowsEach, uint64_t keyRange, size_t dim, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Rows> all(lists);
  uint32_t version = 0;
  for (Rows& list : all) {
    for (size_t i = 0; i < rowsEach; ++i) {
      const uint64_t key = random() % keyRange * 0x9e3779b97f4a7c15u;
      list.rows.emplace_back(key, floatsOf(key, ++version, dim));
    }
  }
  return all;
}

void testSmallest() {
  Directory directory;
  const std::vector<Rows> lists{{{{0, floatsOf(0, 1, 2)}, {UINT64_MAX, floatsOf(5, 1, 2)}}}};
  TableBuildOptions options;
  options.directory = directory.path();
  options.shards = 4;
  options.wantsMean = true;
  const BuiltTable built = build(options, inputsOf(lists));
  CHECK(built.dim == 2 && built.rows == 2 && built.duplicates == 0);
  CHECK(built.mean == std::vector<float>({3.5f, 4.5f}));
  checkTable(options, built, lastWords(lists));
  // Shards without a key are files too.
  CHECK(directory.files() == 4);
  CHECK(PlainShard(directory.path() + "/" + built.shards[1].name).header().grid.buckets() == 4);
}

void testPartitions(RowType type, size_t dim) {
  const size_t rows = dim > 50 ? 12'000 : 60'000;
  const std::vector<Rows> lists = randomLists(40, rows / 40, rows * 2 / 3, dim, 5);
  Expected expected = lastWords(lists);
  const RowEncoder encoder(type, static_cast<uint32_t>(dim), ValueForm::kFloats);
  for (auto& [key, value] : expected.rows) {
    std::string stored(storedRowBytes(type, static_cast<uint32_t>(dim)), '\0');
    CHECK(encoder.encode(std::as_bytes(std::span(value)), reinterpret_cast<std::byte*>(stored.data())));
    value = stored;
  }
  TableBuildOptions options;
  options.rowType = type;
  uint64_t partitions = 0;
  for (const uint64_t memory : {uint64_t{1} << 30, uint64_t{1} << 20}) {
    for (const unsigned threads : {1u, 4u}) {
      for (const uint32_t shards : {1u, 3u}) {
        Directory directory;
        options.directory = directory.path();
        options.memoryLimit = memory;
        options.threads = threads;
        options.shards = shards;
        const BuiltTable built = build(options, inputsOf(lists));
        checkTable(options, built, expected);
        CHECK(built.rowsRead == rows && built.duplicates == rows - expected.rows.size());
        partitions = std::max(partitions, built.partitions);
      }
    }
  }
  CHECK(partitions >= 3);
}

/** With the least memory partitions do not fit, and are built in parts. */
void testParts() {
  std::vector<Rows> lists = randomLists(10, 4000, 1'000'000, 32, 9);
  const Expected expected = lastWords(lists);
  Directory directory;
  TableBuildOptions options;
  options.directory = directory.path();
  options.threads = 2;
  options.memoryLimit = 1 << 20;
  options.shards = 4;
  std::vector<RowInput> inputs = inputsOf(lists);
  // Inputs that say they are small: too few partitions are made.
  for (RowInput& input : inputs) input.bytes = 100;
  const BuiltTable built = build(options, inputs);
  CHECK(built.partitions == 4);
  checkTable(options, built, expected);
}

void testSameFiles() {
  const std::vector<Rows> lists = randomLists(8, 2000, 5000, 4, 11);
  std::vector<uint64_t> digests;
  for (int round = 0; round < 2; ++round) {
    Directory directory;
    TableBuildOptions options;
    options.directory = directory.path();
    options.threads = 4;
    options.memoryLimit = 1 << 20;
    for (const BuiltShard& shard : build(options, inputsOf(lists)).shards) digests.push_back(shard.digest);
  }
  CHECK(digests[0] == digests[1]);
}

void testDelta() {
  std::vector<Rows> lists = randomLists(6, 1000, 3000, 4, 21);
  std::mt19937_64 random(4);
  for (const size_t place : {1, 4}) {
    Rows deletes;
    deletes.isDelete = true;
    for (int i = 0; i < 1500; ++i) {
      deletes.rows.emplace_back(random() % 5000 * 0x9e3779b97f4a7c15u, "");
    }
    lists.insert(lists.begin() + static_cast<ptrdiff_t>(place), deletes);
  }
  const Expected expected = lastWords(lists);
  CHECK(!expected.deletes.empty());
  for (const ShardKind kind : {ShardKind::kDelta, ShardKind::kSnapshot}) {
    Directory directory;
    TableBuildOptions options;
    options.directory = directory.path();
    options.kind = kind;
    options.threads = 3;
    options.shards = 2;
    options.dim = 4;
    const BuiltTable built = build(options, inputsOf(lists));
    CHECK(built.deletesRead == 3000 && built.rowsRead == 6000);
    checkTable(options, built, expected);
  }
}

void testEmptyDelta() {
  Directory directory;
  TableBuildOptions options;
  options.directory = directory.path();
  options.kind = ShardKind::kDelta;
  options.dim = 4;
  options.shards = 3;
  checkTable(options, build(options, {}), {});
  // Deletes alone, one of them twice.
  Directory second;
  options.directory = second.path();
  const std::vector<Rows> lists{{{{7, ""}, {3, ""}, {7, ""}}, true}};
  checkTable(options, build(options, inputsOf(lists)), lastWords(lists));
}

void testBytes() {
  std::mt19937_64 random(2);
  std::vector<Rows> lists(5);
  for (Rows& list : lists) {
    for (int i = 0; i < 800; ++i) {
      // Some longer than any buffer.
      const size_t length = i % 97 == 0 ? 300'000 + random() % 100 : random() % 50;
      list.rows.emplace_back(random() % 2500, std::string(length, static_cast<char>('a' + i % 26)));
    }
  }
  for (const uint64_t memory : {uint64_t{1} << 30, uint64_t{1} << 20}) {
    Directory directory;
    TableBuildOptions options;
    options.directory = directory.path();
    options.rowType = RowType::kBytes;
    options.memoryLimit = memory;
    options.threads = 2;
    options.shards = 2;
    const BuiltTable built = build(options, inputsOf(lists));
    CHECK(built.dim == 0);
    checkTable(options, built, lastWords(lists));
  }
}

Status failureOf(const TableBuildOptions& options, const std::vector<RowInput>& inputs) {
  BuildProgress progress;
  Result<BuiltTable> built = buildTable(options, inputs, progress);
  CHECK(!built.ok());
  CHECK(std::filesystem::is_empty(options.directory));
  return built.status();
}

void checkFailure(const Status& status, const char* code, const std::string& part) {
  if (status.message().find(part) == std::string::npos)
    std::fprintf(stderr, "%s\n", status.message().c_str());
  CHECK(status.code() == std::string(code));
  CHECK(status.message().find(part) != std::string::npos);
}

void testBadInputs() {
  Directory directory;
  TableBuildOptions options;
  options.directory = directory.path();
  options.threads = 4;
  checkFailure(failureOf(options, {}), code::kBadInputFile, "no rows");
  options.dim = 2;
  checkFailure(failureOf(options, {}), code::kBadInputFile, "no rows");
  const std::vector<Rows> deleted{{{{3, ""}}, true}};
  checkFailure(failureOf(options, inputsOf(deleted)), code::kBadInputFile, "no rows");

  std::vector<Rows> lists = randomLists(20, 300, 10'000, 4, 3);
  options.dim = 5;
  checkFailure(failureOf(options, inputsOf(lists)), code::kTableMismatch, "16 bytes, expected 20: 5 floats");
  options.dim = 0;
  lists[7].rows[150].second += "abc";
  lists[9].rows[0].second += "abc";
  checkFailure(failureOf(options, inputsOf(lists)), code::kTableMismatch, "list 7: the value of key");
  lists[0].rows[0].second.clear();
  checkFailure(failureOf(options, inputsOf(lists)), code::kTableMismatch, "0 bytes, expected those of 1 to");

  lists = randomLists(20, 300, 10'000, 4, 3);
  std::vector<RowInput> inputs = inputsOf(lists);
  inputs[15] = inputOf(lists[15], "list 15", "list 15, byte 9: damaged");
  inputs[12] = inputOf(lists[12], "list 12", "list 12, byte 5: damaged");
  // Whatever thread is faster: the first of the inputs.
  for (int i = 0; i < 20; ++i) {
    checkFailure(failureOf(options, inputs), code::kBadInputFile, "list 12, byte 5: damaged");
  }
  BuildProgress progress;
  progress.isCancelled = true;
  CHECK(buildTable(options, inputsOf(lists), progress).status().code() == std::string(code::kCancelled));
  CHECK(directory.files() == 0);

  options.directory = directory.path() + "/absent";
  CHECK(buildTable(options, inputsOf(lists), progress).status().code() == std::string(code::kIo));
}

/** A file that is there already is neither replaced nor removed. */
void testForeignFile() {
  Directory directory;
  const std::vector<Rows> lists = randomLists(1, 10, 10'000, 4, 3);
  TableBuildOptions options;
  options.directory = directory.path();
  build(options, inputsOf(lists));
  BuildProgress progress;
  checkFailure(buildTable(options, inputsOf(lists), progress).status(), code::kIo, "part-00000-of-00001");
  CHECK(directory.files() == 1);
}

/** Keys that were made to share one bucket find no room with the first seed, and do with the next. */
void testCollidingKeys() {
  Directory directory;
  TableBuildOptions options;
  options.directory = directory.path();
  Rows list;
  for (uint64_t key = 0; list.rows.size() < 300; ++key) {
    if (hashKey(key, options.hashSeed) >> 52 == 0) list.rows.emplace_back(key, floatsOf(key, 0, 1));
  }
  const std::vector<Rows> lists{list};
  const BuiltTable built = build(options, inputsOf(lists));
  CHECK(built.hashSeed != options.hashSeed);
  checkTable(options, built, lastWords(lists));

  Directory second;
  options.directory = second.path();
  std::vector<RowInput> inputs = inputsOf(lists);
  inputs[0].isRepeatable = false;
  checkFailure(failureOf(options, inputs), code::kTableMismatch, "list 0 cannot be read again");
}

/** A full disk: in a process of its own whose files may not grow beyond a limit. */
void testFullDisk() {
  const std::vector<Rows> lists = randomLists(20, 1000, 1'000'000, 16, 3);
  // The limit is met in the spill, then in the shard.
  for (const rlim_t limit : {rlim_t{200'000}, rlim_t{1'450'000}}) {
    Directory directory;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limits{limit, limit};
      CHECK(setrlimit(RLIMIT_FSIZE, &limits) == 0);
      TableBuildOptions options;
      options.directory = directory.path();
      const Status status = failureOf(options, inputsOf(lists));
      checkFailure(status, code::kIo, limit < 1'000'000 ? "spill" : "part-00000-of-00001.shard");
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

}  // namespace

void testTableBuild() {
  testSmallest();
  testPartitions(RowType::kF32, 3);
  testPartitions(RowType::kF16, 3);
  testPartitions(RowType::kInt8, 3);
  testPartitions(RowType::kF32, 120);
  testPartitions(RowType::kInt8, 400);
  testEmptyDelta();
  testBytes();
  testForeignFile();
  testCollidingKeys();
  testFullDisk();
}

void testTableBuildThreads() {
  testParts();
  testSameFiles();
  testDelta();
  testBadInputs();
}
