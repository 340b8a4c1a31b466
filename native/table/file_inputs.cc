#include "file_inputs.h"

#include <sys/stat.h>

#include <algorithm>

#include "key_list_source.h"

namespace onnx_serving {
namespace {

constexpr uint64_t kLeastRange = uint64_t{1} << 20;
constexpr uint64_t kMostRange = uint64_t{32} << 20;
/** So that no thread is left with a long last range. */
constexpr uint64_t kRangesPerThread = 8;

uint64_t sizeOf(const std::string& path) {
  struct stat facts;
  return path != kStandardInput && stat(path.c_str(), &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
}

RowInput inputOf(const InputRange& range) {
  RowInput input;
  input.name = range.path == kStandardInput ? "standard input" : range.path;
  // The last range may reach over the end.
  input.bytes = std::min(range.end, std::max(range.begin, sizeOf(range.path))) - range.begin;
  input.isRepeatable = range.path != kStandardInput;
  return input;
}

}  // namespace

Result<std::vector<RowInput>> openFileInputs(const FileInputs& files, unsigned threads) {
  uint64_t total = 0;
  for (const std::string& path : files.paths) total += sizeOf(path);
  const uint64_t target =
      std::clamp(total / (std::max(threads, 1u) * kRangesPerThread), kLeastRange, kMostRange);
  std::vector<RowInput> inputs;
  for (const std::string& path : files.paths) {
    RowFormat format = files.format;
    if (files.guessesFormat) {
      Result<RowFormat> guessed = guessFormat(path);
      if (!guessed.ok()) return guessed.status();
      format.format = guessed.value().format;
      format.delimiter = guessed.value().delimiter;
    }
    Result<std::vector<InputRange>> ranges = splitInput(path, target);
    if (!ranges.ok()) return ranges.status();
    for (const InputRange& range : ranges.value()) {
      inputs.push_back(inputOf(range));
      inputs.back().form = files.form;
      inputs.back().open = [range, format] { return openRowSource(range, format); };
    }
  }
  for (const std::string& path : files.deletePaths) {
    Result<std::vector<InputRange>> ranges = splitInput(path, target);
    if (!ranges.ok()) return ranges.status();
    for (const InputRange& range : ranges.value()) {
      inputs.push_back(inputOf(range));
      inputs.back().isDelete = true;
      inputs.back().open = [range] { return openKeyListSource(range); };
    }
  }
  return inputs;
}

}  // namespace onnx_serving
