// Gathers against the limit of the machine, in one process: the same rows at positions that are known before.
// Prints one JSON object a line. Built and driven by bench/scenarios/sparse-gather.ts.
//
//   gather_bench DIRECTORY ROWS DIM DTYPE SECONDS [DELTAS [ROUNDS]]
//
// DIRECTORY receives the table (kept for the next run) unless it holds one already. SECONDS is the length of
// a turn; a round has ten of them: with uniform and with Zipf keys, a gather and four ways to copy.
//
// "limit" is the best of several distances and stores over the rows where they lie in the table, and over the
// same number of rows packed without an index, in every round; "tableLimit" and "packedLimit" are the two
// apart. "ratio" (gather over limit) and "overUniform" (gather over gather of uniform keys) are medians of
// the rounds' ratios.
#include "gather_rounds.h"
#include "generated_table.h"

using namespace onnx_serving;
using namespace onnx_serving::bench;

namespace {

constexpr size_t kQueryKeys = 4'000'000;

AskedKeys askedKeys(const TableVersion& table, const PackedRows& packedRows, uint64_t rows, bool isZipf,
                    uint64_t changedRows) {
  const std::vector<uint64_t> indices = queriedRows(rows, isZipf, kQueryKeys);
  AskedKeys asked{isZipf ? "zipf" : "uniform", keysOf(indices), {}, {}};
  requireRightRows(table, asked.keys, changedRows);
  asked.inTable.resize(kQueryKeys);
  if (Status looked = table.lookUp(asked.keys, asked.inTable); !looked.ok()) fail(looked.message());
  for (const uint64_t index : indices) asked.packed.push_back(packedRows.row(index));
  return asked;
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
  const double turnSeconds = std::strtod(arguments[5], nullptr);
  const int deltas = count > 6 ? std::atoi(arguments[6]) : 0;
  const int rounds = count > 7 ? std::max(1, std::atoi(arguments[7])) : 25;
  options.threads = std::max(1u, std::thread::hardware_concurrency());
  options.memoryLimit = uint64_t{4} << 30;

  TableFiles files;
  files.snapshot =
      buildGenerated(directory + "/snapshot", options, generatedInputs(0, rows, options.dim, 0), "build");
  options.kind = ShardKind::kDelta;
  // Each delta changes another hundredth of the rows.
  for (int d = 0; d < deltas; ++d) {
    files.deltas.push_back(buildGenerated(
        directory + "/delta-" + std::to_string(d), options,
        generatedInputs(rows / 100 * d, rows / 100 * (d + 1), options.dim, kDeltaAdd), "build-delta"));
  }
  const size_t rowBytes = storedRowBytes(options.rowType, options.dim);
  for (const auto& [residence, name] :
       {std::pair{Residence::kMapped, "mapped"}, {Residence::kInMemory, "memory"}}) {
    const auto openedAt = Clock::now();
    auto opened = TableVersion::open(files, residence);
    if (!opened.ok()) fail(opened.status().message());
    const TableVersion& table = *opened.value();
    std::printf("{\"what\":\"open\",\"residence\":\"%s\",\"ms\":%.2f,\"instructions\":\"%s\"}\n", name,
                seconds(Clock::now() - openedAt) * 1000, bestGatherKernels().name);
    std::fflush(stdout);
    const PackedRows packedRows(rows, rowBytes, residence == Residence::kMapped);
    holdPages();
    const uint64_t changedRows = rows / 100 * static_cast<uint64_t>(deltas);
    const AskedKeys uniform = askedKeys(table, packedRows, rows, false, changedRows);
    const AskedKeys zipf = askedKeys(table, packedRows, rows, true, changedRows);
    for (const size_t batch : {size_t{832}, size_t{26000}})
      for (const unsigned threads : {1u, 2u})
        runRounds({table, name, batch, threads, turnSeconds, rounds}, uniform, zipf);
  }
  return 0;
}
