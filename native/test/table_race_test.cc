#include <atomic>
#include <filesystem>
#include <thread>

#include "../table/table_scan.h"
#include "check.h"
#include "table_files.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr uint32_t kDim = 8;
constexpr uint64_t kKeys = 1500;

std::vector<float> rowOf(uint64_t key, float version) {
  std::vector<float> row(kDim);
  for (uint32_t i = 0; i < kDim; ++i) row[i] = static_cast<float>(key) + static_cast<float>(i) * version;
  return row;
}

/** A snapshot, and a delta that replaces every third row and deletes every seventh. */
struct Files {
  TableFiles files;
  FloatRows rows;
};

Files makeFiles(const std::string& directory) {
  Files made;
  TableBuildOptions options;
  options.dim = kDim;
  options.shards = 2;
  for (uint64_t key = 0; key < kKeys; ++key) made.rows[key] = rowOf(key, 1);
  made.files.snapshot = buildFiles(directory, options, {inputOf(made.rows)});
  FloatRows changed;
  std::vector<uint64_t> deleted;
  for (uint64_t key = 0; key < kKeys; key += 3) changed[key] = rowOf(key, 2);
  for (uint64_t key = 0; key < kKeys; key += 7) {
    changed.erase(key);
    deleted.push_back(key);
  }
  options.kind = ShardKind::kDelta;
  made.files.deltas.push_back(buildFiles(directory, options, {inputOf(changed), deletesOf(deleted)}));
  for (const auto& [key, row] : changed) made.rows[key] = row;
  for (const uint64_t key : deleted) made.rows.erase(key);
  return made;
}

void checkRows(const TableVersion& table, const FloatRows& rows) {
  std::vector<uint64_t> keys(kKeys + 10);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = i * 7919 % keys.size();
  std::vector<float> out(keys.size() * kDim);
  GatherRequest request;
  request.keys = keys;
  request.out = out;
  Result<size_t> missing = table.gather(request);
  CHECK(missing.ok() && missing.value() == keys.size() - rows.size());
  for (size_t i = 0; i < keys.size(); i += 13) {
    const auto found = rows.find(keys[i]);
    for (uint32_t d = 0; d < kDim; ++d)
      CHECK(out[i * kDim + d] == (found == rows.end() ? 0.0f : found->second[d]));
  }
}

std::shared_ptr<const TableVersion> openOf(const TableFiles& files, Residence residence) {
  Result<std::shared_ptr<const TableVersion>> opened = TableVersion::openShared(files, residence);
  if (!opened.ok()) std::fprintf(stderr, "%s\n", opened.status().message().c_str());
  CHECK(opened.ok());
  return opened.value();
}

/** Folds the table into a snapshot of its own, reads that, and removes it. */
void compact(const Files& made, const std::string& directory) {
  std::filesystem::create_directory(directory);
  TableFiles folded;
  {
    TableBuildOptions options;
    options.directory = directory;
    options.dim = kDim;
    options.shards = 2;
    options.threads = 2;
    BuildProgress progress;
    const auto table = openOf(made.files, Residence::kMapped);
    Result<BuiltTable> built = buildTable(options, scanInputs(table, ScanOf::kAll, nullptr, false), progress);
    CHECK(built.ok() && built.value().rows == made.rows.size());
    for (const BuiltShard& shard : built.value().shards)
      folded.snapshot.push_back(directory + "/" + shard.name);
  }
  const auto snapshot = openOf(folded, Residence::kMapped);
  checkRows(*snapshot, made.rows);
  Result<TableDifference> difference = compareTables(openOf(made.files, Residence::kInMemory), snapshot);
  CHECK(difference.ok() && difference.value().added + difference.value().removed == 0);
  CHECK(difference.value().changed == 0);
  // Whoever has it open goes on reading it.
  std::filesystem::remove_all(directory);
  checkRows(*snapshot, made.rows);
}

}  // namespace

void testTableRace() {
  const TemporaryDirectory directory;
  const Files made = makeFiles(directory.path());
  const auto held = openOf(made.files, Residence::kMapped);
  CHECK(openOf(made.files, Residence::kMapped) == held);
  CHECK(openOf(made.files, Residence::kInMemory) != held);
  std::atomic<bool> isDone = false;
  std::vector<std::thread> threads;
  // One object that two threads gather from all the time.
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!isDone) checkRows(*held, made.rows);
    });
  }
  // Others that are opened and closed, by the last of several or not.
  for (const Residence residence : {Residence::kMapped, Residence::kInMemory}) {
    threads.emplace_back([&, residence] {
      while (!isDone) {
        const auto first = openOf(made.files, residence);
        auto second = openOf(made.files, residence);
        checkRows(*first, made.rows);
        second.reset();
        CHECK(first->rows().value() == made.rows.size());
        CHECK(first->snapshot()[0]->verify([](uint64_t) { return true; }).ok());
      }
    });
  }
  for (int turn = 0; turn < 6; ++turn) compact(made, directory.path() + "/folded-" + std::to_string(turn));
  isDone = true;
  for (std::thread& thread : threads) thread.join();
}
