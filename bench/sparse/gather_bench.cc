// Gathers against the limit of the machine, in one process: the same rows at positions that are known before.
// Prints one JSON object a line. Built and driven by bench/scenarios/sparse-gather.ts.
//
//   gather_bench DIRECTORY ROWS DIM DTYPE SECONDS [DELTAS [ROUNDS]]
//
// DIRECTORY receives the table (kept for the next run) unless it holds one already.
//
// "limit" is the best of several distances and stores over the rows where they lie in the table, and over the
// same number of rows packed without an index, in every round; "tableLimit" and "packedLimit" are the two
// apart.
#include <atomic>
#include <filesystem>
#include <thread>

#include "../../native/table/table_builder.h"
#include "../../native/table/table_version.h"
#include "bench_rows.h"
#include "known_positions.h"

using namespace onnx_serving;
using namespace onnx_serving::bench;

namespace {

constexpr size_t kQueryKeys = 4'000'000;

std::vector<RowInput> inputsOf(uint64_t begin, uint64_t end, uint32_t dim, float add) {
  std::vector<RowInput> inputs;
  const uint64_t step = std::max<uint64_t>((end - begin) / 64, 1);
  for (uint64_t from = begin; from < end; from += step) {
    const uint64_t to = std::min(end, from + step);
    RowInput input;
    input.name = "rows " + std::to_string(from);
    input.bytes = (to - from) * (8 + 4 * uint64_t{dim});
    input.open = [=]() -> Result<std::unique_ptr<RowSource>> {
      return std::unique_ptr<RowSource>(std::make_unique<GeneratedRows>(from, to, dim, add));
    };
    inputs.push_back(std::move(input));
  }
  return inputs;
}

std::vector<std::string> build(const std::string& directory, TableBuildOptions options,
                               std::vector<RowInput> inputs, const char* what) {
  options.directory = directory;
  std::vector<std::string> paths;
  for (uint32_t shard = 0; shard < options.shards; ++shard)
    paths.push_back(directory + "/" + shardFileName(shard, options.shards));
  if (std::filesystem::exists(paths[0])) return paths;
  std::filesystem::create_directories(directory);
  BuildProgress progress;
  const auto startedAt = Clock::now();
  Result<BuiltTable> built = buildTable(options, inputs, progress);
  if (!built.ok()) fail(built.status().message());
  const double took = seconds(Clock::now() - startedAt);
  uint64_t bytes = 0;
  for (const BuiltShard& shard : built.value().shards) bytes += shard.bytes;
  const double rows = static_cast<double>(built.value().rows);
  const double rowBytes = static_cast<double>(storedRowBytes(options.rowType, options.dim));
  std::printf(
      "{\"what\":\"%s\",\"rows\":%.0f,\"seconds\":%.3f,\"rowsPerSecondPerCore\":%.0f,\"overheadBytes\":%.2f}"
      "\n",
      what, rows, took, rows / took / options.threads, static_cast<double>(bytes) / rows - rowBytes - 8);
  std::fflush(stdout);
  return paths;
}

struct Case {
  const TableVersion& table;
  const std::vector<uint64_t>& keys;
  /** Where the row of each key lies: in the table, and packed. */
  const std::vector<const std::byte*>& inTable;
  const std::vector<const std::byte*>& packed;
  size_t batch;
  unsigned threads;
};

/** Keys a second of `work(thread, first key, output)`, called for batches in turn by every thread. */
template <class Work>
double rate(const Case& test, double forSeconds, Work work) {
  std::atomic<bool> isOver = false;
  std::atomic<uint64_t> done = 0;
  std::vector<std::thread> threads;
  const auto startedAt = Clock::now();
  for (unsigned t = 0; t < test.threads; ++t) {
    threads.emplace_back([&, t] {
      AlignedFloats out(test.batch * test.table.dim());
      const size_t batches = test.keys.size() / test.batch;
      uint64_t own = 0;
      for (size_t b = t * batches / test.threads; !isOver; b = (b + 1) % batches, own += test.batch)
        work(b * test.batch, out.data());
      done += own;
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(forSeconds));
  isOver = true;
  for (std::thread& thread : threads) thread.join();
  return static_cast<double>(done) / seconds(Clock::now() - startedAt);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string listOf(const std::vector<double>& values) {
  std::string list = "[";
  for (const double value : values)
    list += (list.size() > 1 ? "," : "") + std::to_string(static_cast<uint64_t>(value));
  return list + "]";
}

/** A way to copy from one of the two places. */
struct Known {
  const KnownVariant* variant;
  const std::vector<const std::byte*>* places;
};

double limitOf(const Case& test, const Known& known, size_t rowBytes, double forSeconds) {
  return rate(test, forSeconds, [&](size_t first, float* out) {
    known.variant->copy(&(*known.places)[first], test.batch, rowBytes, reinterpret_cast<std::byte*>(out));
  });
}

/** The ways that come first in a short trial: two for the rows in the table, two for the packed ones. */
std::vector<Known> bestKnown(const Case& test, const std::vector<KnownVariant>& variants, size_t rowBytes,
                             double forSeconds) {
  std::vector<Known> best;
  for (const auto* places : {&test.inTable, &test.packed}) {
    std::vector<std::pair<double, Known>> tried;
    for (const KnownVariant& variant : variants) {
      const Known known{&variant, places};
      tried.emplace_back(limitOf(test, known, rowBytes, forSeconds), known);
    }
    std::sort(tried.begin(), tried.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (size_t i = 0; i < 2; ++i) best.push_back(tried[i].second);
  }
  return best;
}

void measure(const char* residence, const char* distribution, const Case& test, double forSeconds,
             int rounds) {
  const size_t rowBytes = storedRowBytes(test.table.rowType(), test.table.dim());
  const std::vector<KnownVariant> variants = knownVariants(rowBytes);
  const std::vector<Known> chosen = bestKnown(test, variants, rowBytes, forSeconds / 4);
  std::vector<double> gathers, limits, inTable, packed, ratios;
  for (int round = 0; round < rounds; ++round) {
    double table = 0, free = 0;
    for (const Known& known : chosen) {
      double& best = known.places == &test.inTable ? table : free;
      best = std::max(best, limitOf(test, known, rowBytes, forSeconds));
    }
    gathers.push_back(rate(test, forSeconds, [&](size_t first, float* out) {
      GatherRequest request;
      request.keys = {&test.keys[first], test.batch};
      request.out = {out, test.batch * test.table.dim()};
      const auto missing = test.table.gather(request);
      if (!missing.ok()) std::abort();
    }));
    inTable.push_back(table);
    packed.push_back(free);
    limits.push_back(std::max(table, free));
    ratios.push_back(gathers.back() / limits.back());
  }
  std::printf(
      "{\"what\":\"gather\",\"residence\":\"%s\",\"keys\":\"%s\",\"batch\":%zu,\"threads\":%u,\"gather\":%."
      "0f,"
      "\"limit\":%.0f,\"ratio\":%.3f,\"tableLimit\":%.0f,\"packedLimit\":%.0f,\"best\":[\"%s in the "
      "table\",\"%s packed\"],"
      "\"gathers\":%s,\"limits\":%s}\n",
      residence, distribution, test.batch, test.threads, median(gathers), median(limits), median(ratios),
      median(inTable), median(packed), chosen[0].variant->name, chosen[2].variant->name,
      listOf(gathers).c_str(), listOf(limits).c_str());
  std::fflush(stdout);
}

/** Gathers the first keys and compares every element with what the key says. */
void requireRightRows(const TableVersion& table, const std::vector<uint64_t>& keys, uint64_t changedRows) {
  const size_t count = std::min<size_t>(keys.size(), 100'000);
  const size_t dim = table.dim();
  AlignedFloats out(count * dim);
  GatherRequest request;
  request.keys = {keys.data(), count};
  request.out = {out.data(), count * dim};
  auto missing = table.gather(request);
  if (!missing.ok()) fail(missing.status().message());
  if (missing.value() != 0) fail(std::to_string(missing.value()) + " keys are missing");
  const float tolerance = table.rowType() == RowType::kInt8 ? static_cast<float>(dim) / 255 : 0;
  for (size_t k = 0; k < count; ++k) {
    const uint64_t i = indexOf(keys[k]);
    for (size_t d = 0; d < dim; ++d) {
      const float expected = elementOf(i, d, i < changedRows ? kDeltaAdd : 0);
      if (!(std::abs(out.data()[k * dim + d] - expected) <= tolerance))
        fail("row " + std::to_string(i) + " is wrong at element " + std::to_string(d));
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 6) fail("usage: gather_bench DIRECTORY ROWS DIM DTYPE SECONDS [DELTAS [ROUNDS]]");
  const std::string directory = arguments[1];
  const uint64_t rows = std::strtoull(arguments[2], nullptr, 10);
  TableBuildOptions options;
  options.dim = static_cast<uint32_t>(std::strtoul(arguments[3], nullptr, 10));
  const std::string dtype = arguments[4];
  options.rowType = dtype == "f16" ? RowType::kF16 : dtype == "int8" ? RowType::kInt8 : RowType::kF32;
  const double forSeconds = std::strtod(arguments[5], nullptr);
  const int deltas = count > 6 ? std::atoi(arguments[6]) : 0;
  const int rounds = count > 7 ? std::max(1, std::atoi(arguments[7])) : 5;
  options.threads = std::max(1u, std::thread::hardware_concurrency());
  options.memoryLimit = uint64_t{4} << 30;

  TableFiles files;
  files.snapshot = build(directory + "/snapshot", options, inputsOf(0, rows, options.dim, 0), "build");
  options.kind = ShardKind::kDelta;
  // Each delta changes another hundredth of the rows.
  for (int d = 0; d < deltas; ++d) {
    files.deltas.push_back(build(directory + "/delta-" + std::to_string(d), options,
                                 inputsOf(rows / 100 * d, rows / 100 * (d + 1), options.dim, kDeltaAdd),
                                 "build-delta"));
  }
  const size_t rowBytes = storedRowBytes(options.rowType, options.dim);
  for (const auto& [residence, name] :
       {std::pair{Residence::kMapped, "mapped"}, {Residence::kInMemory, "memory"}}) {
    const auto openedAt = Clock::now();
    auto table = TableVersion::open(files, residence);
    if (!table.ok()) fail(table.status().message());
    std::printf("{\"what\":\"open\",\"residence\":\"%s\",\"ms\":%.2f,\"instructions\":\"%s\"}\n", name,
                seconds(Clock::now() - openedAt) * 1000, bestGatherKernels().name);
    std::fflush(stdout);
    const PackedRows packedRows(rows, rowBytes, residence == Residence::kMapped);
    holdPages();
    for (const bool isZipf : {false, true}) {
      const std::vector<uint64_t> indices = queriedRows(rows, isZipf, kQueryKeys);
      const std::vector<uint64_t> keys = keysOf(indices);
      requireRightRows(*table.value(), keys, rows / 100 * static_cast<uint64_t>(deltas));
      std::vector<const std::byte*> inTable(keys.size());
      if (Status looked = table.value()->lookUp(keys, inTable); !looked.ok()) fail(looked.message());
      std::vector<const std::byte*> packed(keys.size());
      for (size_t k = 0; k < keys.size(); ++k) packed[k] = packedRows.row(indices[k]);
      for (const size_t batch : {size_t{832}, size_t{26000}})
        for (const unsigned threads : {1u, 2u})
          measure(name, isZipf ? "zipf" : "uniform", {*table.value(), keys, inTable, packed, batch, threads},
                  forSeconds, rounds);
    }
  }
  return 0;
}
