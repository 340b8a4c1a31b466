#include "table_files.h"

#include <filesystem>

#include "check.h"

using namespace onnx_serving;

namespace {

class MemorySource : public RowSource {
 public:
  explicit MemorySource(const FloatRows& rows) : at_(rows.begin()), end_(rows.end()) {}

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    for (; at_ != end_ && !limit.isReached(out); ++at_)
      out.append(at_->first, std::as_bytes(std::span(at_->second)));
    return {};
  }

 private:
  FloatRows::const_iterator at_;
  FloatRows::const_iterator end_;
};

}  // namespace

RowInput inputOf(FloatRows rows) {
  RowInput input;
  input.name = "rows in memory";
  auto shared = std::make_shared<FloatRows>(std::move(rows));
  input.open = [shared]() -> Result<std::unique_ptr<RowSource>> {
    return std::unique_ptr<RowSource>(std::make_unique<MemorySource>(*shared));
  };
  return input;
}

RowInput deletesOf(std::vector<uint64_t> keys) {
  FloatRows rows;
  for (const uint64_t key : keys) rows[key] = {};
  RowInput input = inputOf(std::move(rows));
  input.isDelete = true;
  return input;
}

std::vector<std::string> buildFiles(const std::string& directory, TableBuildOptions options,
                                    std::vector<RowInput> inputs) {
  static int builds = 0;
  options.directory = directory + "/build-" + std::to_string(builds++);
  CHECK(std::filesystem::create_directory(options.directory));
  BuildProgress progress;
  Result<BuiltTable> built = buildTable(options, inputs, progress);
  if (!built.ok()) std::fprintf(stderr, "%s\n", built.status().message().c_str());
  CHECK(built.ok());
  std::vector<std::string> paths;
  for (const BuiltShard& shard : built.value().shards) paths.push_back(options.directory + "/" + shard.name);
  return paths;
}
