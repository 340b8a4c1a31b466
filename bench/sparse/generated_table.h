#pragma once

// A table of generated rows, built natively in the process that asks for it.

#include <filesystem>
#include <string>
#include <vector>

#include "../../native/table/table_builder.h"
#include "../../native/table/table_version.h"
#include "bench_rows.h"

namespace onnx_serving::bench {

inline std::vector<RowInput> generatedInputs(uint64_t begin, uint64_t end, uint32_t dim, float add) {
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

/** Builds a snapshot or delta unless `directory` holds it, and prints what that took as `what`. Its files. */
inline std::vector<std::string> buildGenerated(const std::string& directory, TableBuildOptions options,
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

/** Gathers the first keys and compares every element with what the key says. */
inline void requireRightRows(const TableVersion& table, std::span<const uint64_t> keys,
                             uint64_t changedRows) {
  const size_t count = std::min<size_t>(keys.size(), 100'000);
  const size_t dim = table.dim();
  AlignedFloats out(count * dim);
  GatherRequest request;
  request.keys = keys.first(count);
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

}  // namespace onnx_serving::bench
