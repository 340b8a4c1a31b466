#include "input_pass.h"

#include <algorithm>
#include <utility>

#include "thread_team.h"

namespace onnx_serving {
namespace {

constexpr size_t kBatchRows = 1024;
constexpr size_t kBatchBytes = size_t{256} << 10;

size_t batchRowsFor(size_t valueBytes) {
  return std::clamp<size_t>(kBatchBytes / std::max<size_t>(valueBytes, 256), 1, kBatchRows);
}

}  // namespace

Result<FirstRows> readFirstRows(std::span<const RowInput> inputs) {
  FirstRows first;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].isDelete) continue;
    Result<std::unique_ptr<RowSource>> source = inputs[i].open();
    if (!source.ok()) return source.status();
    Result<size_t> rows = source.value()->read(first.rows, 1);
    if (!rows.ok()) return rows.status();
    if (rows.value() == 0) continue;
    first.input = i;
    first.source = std::move(source.value());
    break;
  }
  return first;
}

InputPass::InputPass(std::span<const RowInput> inputs, RowType type, uint32_t dim,
                     const Partitioning& partitioning, FirstRows first, BuildProgress& progress)
    : inputs_(inputs),
      floats_(type, dim, ValueForm::kFloats),
      stored_(type, dim, ValueForm::kStored),
      record_(type, dim),
      partitioning_(partitioning),
      first_(std::move(first)),
      progress_(progress),
      batchRows_(batchRowsFor(floats_.valueBytes())) {}

Status InputPass::run(const BuildPlan& plan, const std::string& spillDirectory) {
  for (unsigned i = 0; i < plan.threads; ++i) {
    Result<SpillFile> file = SpillFile::create(spillDirectory, partitioning_.partitions());
    if (!file.ok()) return file.status();
    files_.push_back(std::move(file.value()));
  }
  counts_.resize(partitioning_.partitions());
  runThreads(plan.threads, [&](unsigned thread) { runThread(files_[thread], plan.bufferBytes); });
  return std::move(failure_);
}

void InputPass::runThread(SpillFile& file, size_t bufferBytes) {
  Result<SpillWriter> writer = SpillWriter::open(file, partitioning_.partitions(), bufferBytes);
  if (!writer.ok()) return fail(0, writer.status());
  RowBatch batch;
  for (;;) {
    const size_t input = nextInput_++;
    if (input >= inputs_.size() || input > failedInput_) break;
    Status status = readInput(input, writer.value(), batch);
    if (!status.ok()) return fail(input, std::move(status));
    progress_.bytesRead += inputs_[input].bytes;
  }
  if (Status status = writer.value().finish(); !status.ok()) return fail(inputs_.size(), std::move(status));
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += writer.value().counts()[i];
}

void InputPass::fail(size_t input, Status status) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok() && failedInput_ <= input) return;
  failedInput_ = input;
  failure_ = std::move(status);
}

Status InputPass::readInput(size_t input, SpillWriter& writer, RowBatch& batch) {
  const RowInput& from = inputs_[input];
  writer.beginInput(static_cast<uint32_t>(input), from.isDelete);
  std::unique_ptr<RowSource> source;
  if (input == first_.input) {
    source = std::move(first_.source);
    if (Status status = spillRows(from, first_.rows, writer); !status.ok()) return status;
    progress_.rowsRead += first_.rows.rows();
  } else {
    Result<std::unique_ptr<RowSource>> opened = from.open();
    if (!opened.ok()) return opened.status();
    source = std::move(opened.value());
  }
  for (;;) {
    if (progress_.isCancelled.load(std::memory_order_relaxed)) {
      return {code::kCancelled, "the build was cancelled"};
    }
    // What comes behind an earlier failure is not told of.
    if (input > failedInput_.load(std::memory_order_relaxed)) return {};
    batch.clear();
    Result<size_t> rows = source->read(batch, batchRows_);
    if (!rows.ok()) return rows.status();
    if (rows.value() == 0) return {};
    if (Status status = spillRows(from, batch, writer); !status.ok()) return status;
    progress_.rowsRead += rows.value();
  }
}

Status InputPass::spillRows(const RowInput& input, const RowBatch& batch, SpillWriter& writer) {
  const RowEncoder& encoder = input.form == ValueForm::kFloats ? floats_ : stored_;
  for (size_t row = 0; row < batch.rows(); ++row) {
    const uint64_t key = batch.keys[row];
    const std::span<const std::byte> value = input.isDelete ? std::span<const std::byte>() : batch.value(row);
    const size_t bytes = input.isDelete ? SpillRecord::kKeyBytes : record_.bytesFor(value.size());
    std::byte* const record = writer.add(partitioning_.partitionOf(key), bytes);
    if (record == nullptr) return writer.status();
    if (input.isDelete) {
      std::memcpy(record, &key, sizeof key);
    } else if (!encoder.encode(value, record_.begin(record, key, value.size()))) {
      return encoder.problem(key, value, input.name);
    }
  }
  return {};
}

}  // namespace onnx_serving
