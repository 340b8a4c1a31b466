#include "table_builder.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

#include "input_pass.h"
#include "shard_build.h"
#include "thread_team.h"

namespace onnx_serving {
namespace {

/** Another seed and more room each time; keys that do not fit three times were made not to. */
constexpr int kTries = 3;
constexpr double kReliefPerTry = 0.92;
constexpr uint64_t kNextSeed = 0x9e3779b97f4a7c15u;

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Status noRows() { return {code::kBadInputFile, "the inputs hold no rows, expected at least one"}; }

class TableBuild {
 public:
  TableBuild(const TableBuildOptions& options, std::span<const RowInput> inputs, BuildProgress& progress)
      : options_(options), inputs_(inputs), progress_(progress) {}

  Result<BuiltTable> run();

 private:
  struct Try {
    uint64_t hashSeed;
    double relief;
  };

  Status findDim();
  Status checkRepeatable() const;
  Status checkRows(const InputPass& pass) const;
  Result<bool> tryOnce(const Try& attempt);
  Result<bool> writeShards(const Try& attempt, const BuildPlan& plan, const InputPass& pass);
  void report(std::span<const std::unique_ptr<ShardBuild>> shards, const InputPass& pass);

  const TableBuildOptions& options_;
  std::span<const RowInput> inputs_;
  BuildProgress& progress_;
  FirstRows first_;
  BuiltTable built_;
};

Result<BuiltTable> TableBuild::run() {
  for (const RowInput& input : inputs_) progress_.bytesTotal += input.bytes;
  built_.dim = options_.dim;
  if (Status status = findDim(); !status.ok()) return status;
  Try attempt{options_.hashSeed, 1};
  for (int i = 0; i < kTries; ++i) {
    Result<bool> done = tryOnce(attempt);
    if (done.ok() && done.value()) {
      progress_.phase = BuildPhase::kDone;
      return std::move(built_);
    }
    if (!done.ok()) return done.status();
    if (Status status = checkRepeatable(); !status.ok()) return status;
    attempt = {attempt.hashSeed + kNextSeed, attempt.relief * kReliefPerTry};
  }
  return Status(code::kTableMismatch, "the keys do not fit their buckets with any of " +
                                          std::to_string(kTries) +
                                          " hash seeds: they look as if chosen to collide");
}

Status TableBuild::findDim() {
  if (options_.rowType == RowType::kBytes || options_.dim != 0) return {};
  Result<FirstRows> first = readFirstRows(inputs_);
  if (!first.ok()) return first.status();
  first_ = std::move(first.value());
  if (first_.input == FirstRows::kNone) {
    return noRows();
  }
  const RowInput& input = inputs_[first_.input];
  const size_t bytes = first_.rows.value(0).size();
  built_.dim = dimOfValue(options_.rowType, input.form, bytes);
  if (built_.dim > 0) return {};
  return {code::kTableMismatch, input.name + ": the value of key " + std::to_string(first_.rows.keys[0]) +
                                    " has " + std::to_string(bytes) + " bytes, expected those of 1 to " +
                                    std::to_string(ShardHeader::kMaxDim) + " elements"};
}

Status TableBuild::checkRepeatable() const {
  for (const RowInput& input : inputs_) {
    if (input.isRepeatable) continue;
    return {code::kTableMismatch, "the keys do not fit their buckets with the first hash seed, and " +
                                      input.name + " cannot be read again for another: use a file"};
  }
  return {};
}

Status TableBuild::checkRows(const InputPass& pass) const {
  if (options_.kind == ShardKind::kDelta || options_.allowsNoRows) return {};
  for (const SpillCounts& counts : pass.counts()) {
    if (counts.rows > 0) return {};
  }
  return noRows();
}

Result<bool> TableBuild::tryOnce(const Try& attempt) {
  const SpillRecord record(options_.rowType, built_.dim);
  const uint64_t recordBytes = options_.rowType == RowType::kBytes ? record.bytesFor(0) : record.fixedBytes();
  const BuildPlan plan =
      planBuild({progress_.bytesTotal, options_.shards, options_.threads, options_.memoryLimit, recordBytes});
  progress_.phase = BuildPhase::kReading;
  progress_.rowsRead = 0;
  progress_.bytesRead = 0;

  auto start = std::chrono::steady_clock::now();
  const Partitioning partitioning{options_.shards, plan.partitionsPerShard, attempt.hashSeed};
  InputPass pass(inputs_, options_.rowType, built_.dim, partitioning, std::exchange(first_, {}), progress_);
  if (Status status = pass.run(plan, options_.directory); !status.ok()) return status;
  built_.readingSeconds = secondsSince(start);
  if (Status status = checkRows(pass); !status.ok()) return status;

  start = std::chrono::steady_clock::now();
  built_.hashSeed = attempt.hashSeed;
  built_.threads = plan.threads;
  Result<bool> written = writeShards(attempt, plan, pass);
  built_.writingSeconds = secondsSince(start);
  return written;
}

Result<bool> TableBuild::writeShards(const Try& attempt, const BuildPlan& plan, const InputPass& pass) {
  const uint64_t partitions = plan.partitionsPerShard;
  progress_.partitionsDone = 0;
  progress_.partitionsTotal = options_.shards * partitions;
  progress_.phase = BuildPhase::kWriting;
  const ShardBuildSetup setup{options_, plan, built_.dim, attempt.hashSeed, attempt.relief};
  std::vector<std::unique_ptr<ShardBuild>> shards;
  for (uint32_t shard = 0; shard < options_.shards; ++shard) {
    shards.push_back(
        std::make_unique<ShardBuild>(setup, shard, pass.counts().subspan(shard * partitions, partitions)));
  }
  RowSum sum(options_.rowType, options_.wantsMean ? built_.dim : 0);
  std::mutex mutex;
  Status failure;
  std::atomic<bool> isEnding = false;
  std::atomic<uint64_t> next = 0;
  runThreads(plan.threads, [&](unsigned) {
    RowSum ownSum(options_.rowType, options_.wantsMean ? built_.dim : 0);
    PartitionBuilder builder(pass.files(), SpillRecord(options_.rowType, built_.dim),
                             options_.wantsMean ? &ownSum : nullptr, progress_.isCancelled);
    while (!isEnding) {
      const uint64_t partition = next++;
      if (partition >= options_.shards * partitions) break;
      Result<bool> done = shards[partition / partitions]->buildPartition(partition % partitions, builder);
      ++progress_.partitionsDone;
      if (done.ok() && done.value()) continue;
      isEnding = true;
      const std::lock_guard lock(mutex);
      if (!done.ok() && failure.ok()) failure = done.status();
    }
    const std::lock_guard lock(mutex);
    sum.add(ownSum);
  });
  if (isEnding) {
    for (const auto& shard : shards) shard->removeFile();
    if (!failure.ok()) return failure;
    return false;
  }
  report(shards, pass);
  if (options_.wantsMean) built_.mean = sum.mean();
  return true;
}

void TableBuild::report(std::span<const std::unique_ptr<ShardBuild>> shards, const InputPass& pass) {
  built_.partitions = pass.counts().size();
  for (const std::unique_ptr<ShardBuild>& shard : shards) {
    built_.shards.push_back(shard->built());
    built_.rows += shard->built().rows;
    built_.deletes += shard->built().deletes;
    built_.duplicates += shard->duplicates();
  }
  for (const SpillCounts& counts : pass.counts()) {
    built_.rowsRead += counts.rows;
    built_.deletesRead += counts.deletes;
  }
  for (const SpillFile& file : pass.files()) built_.spilledBytes += file.bytes();
}

}  // namespace

std::string shardFileName(uint32_t shard, uint32_t shards) {
  char name[64];
  std::snprintf(name, sizeof name, "part-%05u-of-%05u.shard", shard, shards);
  return name;
}

Result<BuiltTable> buildTable(const TableBuildOptions& options, std::span<const RowInput> inputs,
                              BuildProgress& progress) {
  return TableBuild(options, inputs, progress).run();
}

}  // namespace onnx_serving
