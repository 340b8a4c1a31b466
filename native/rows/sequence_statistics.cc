#include "sequence_statistics.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "byte_reader.h"
#include "sequence_source.h"

namespace onnx_serving {
namespace {

constexpr size_t kBatchRows = 4096;

void count(const RowBatch& batch, SequenceStatistics& statistics) {
  for (size_t row = 0; row < batch.rows(); ++row) {
    const uint64_t bytes = batch.value(row).size();
    statistics.smallestKey = std::min(statistics.smallestKey, batch.keys[row]);
    statistics.largestKey = std::max(statistics.largestKey, batch.keys[row]);
    statistics.shortestValue = std::min(statistics.shortestValue, bytes);
    statistics.longestValue = std::max(statistics.longestValue, bytes);
  }
  statistics.records += batch.rows();
  statistics.valueBytes += batch.bytes.size();
}

}  // namespace

Result<SequenceStatistics> measureSequenceFile(const std::string& path, InnerLengths innerLengths) {
  Result<ByteReader> reader = ByteReader::open(path);
  if (!reader.ok()) return reader.status();
  SequenceStatistics statistics;
  const std::optional<uint64_t> size = reader.value().size();
  auto opened = SequenceSource::open(std::move(reader.value()), 0, UINT64_MAX, innerLengths);
  if (!opened.ok()) return opened.status();
  SequenceSource& source = *opened.value();
  statistics.header = source.header();
  statistics.hasInnerLengths = source.hasInnerLengths();
  RowBatch batch;
  for (;;) {
    batch.clear();
    Result<size_t> rows = source.read(batch, kBatchRows);
    if (!rows.ok()) statistics.damage = rows.status();
    if (!rows.ok() || rows.value() == 0) break;
    count(batch, statistics);
  }
  statistics.escapes = source.escapes();
  statistics.fileBytes = size.value_or(source.offset());
  return statistics;
}

}  // namespace onnx_serving
