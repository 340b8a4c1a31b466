#include "row_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "byte_reader.h"
#include "csv_source.h"
#include "key_value_source.h"
#include "npy_source.h"
#include "sequence_source.h"

namespace onnx_serving {
namespace {

Result<std::unique_ptr<RowSource>> openOver(ByteReader reader, const InputRange& range,
                                            const RowFormat& format) {
  switch (format.format) {
    case InputFormat::kSequenceFile: {
      auto source = SequenceSource::open(std::move(reader), range.begin, range.end, format.innerLengths);
      if (!source.ok()) return source.status();
      return std::unique_ptr<RowSource>(std::move(source.value()));
    }
    case InputFormat::kKeyValue:
      return openKeyValueSource(std::move(reader), range.begin, range.end, format.values);
    case InputFormat::kCsv:
      return openCsvSource(std::move(reader), range.begin, range.end, format);
    case InputFormat::kNpy:
      break;
  }
  return openNpySource(std::move(reader), range.begin, range.end, format);
}

}  // namespace

Result<size_t> RowSource::read(RowBatch& out, size_t maxRows) {
  if (!fault_.ok()) return fault_;
  const size_t before = out.rows();
  const size_t rows = std::min(maxRows, SIZE_MAX - before);
  Status status = append(out, {before + rows, out.bytes.size() + kReadBytes});
  const size_t appended = out.rows() - before;
  if (status.ok()) return appended;
  out.bytes.resize(out.ends.empty() ? 0 : out.ends.back());
  fault_ = std::move(status);
  if (appended > 0) return appended;
  return fault_;
}

Result<std::vector<InputRange>> splitInput(const std::string& path, uint64_t targetBytes) {
  Result<ByteReader> reader = ByteReader::open(path);
  if (!reader.ok()) return reader.status();
  std::vector<InputRange> ranges;
  if (!reader.value().size()) {
    ranges.push_back({path});
    return ranges;
  }
  const uint64_t size = *reader.value().size();
  const uint64_t target = std::max<uint64_t>(targetBytes, 1);
  const uint64_t pieces = std::max<uint64_t>(size / target + (size % target != 0), 1);
  const uint64_t larger = size % pieces;
  uint64_t begin = 0;
  for (uint64_t piece = 0; piece < pieces; ++piece) {
    const uint64_t end = begin + size / pieces + (piece < larger);
    ranges.push_back({path, begin, end});
    begin = end;
  }
  return ranges;
}

Result<std::unique_ptr<RowSource>> openRowSource(const InputRange& range, const RowFormat& format) {
  Result<ByteReader> reader = ByteReader::open(range.path);
  if (!reader.ok()) return reader.status();
  return openOver(std::move(reader.value()), range, format);
}

Result<std::unique_ptr<RowSource>> openRowSource(std::span<const std::byte> memory, const InputRange& range,
                                                 const RowFormat& format) {
  return openOver(ByteReader(memory, range.path), range, format);
}

Result<RowFormat> guessFormat(const std::string& path) {
  RowFormat format;
  format.format = InputFormat::kKeyValue;
  Result<ByteReader> opened = ByteReader::open(path);
  if (!opened.ok()) return opened.status();
  ByteReader& reader = opened.value();
  // What was taken from standard input could not be put back.
  if (!reader.size()) return format;
  if (Status status = reader.fill(6); !status.ok()) return status;
  const std::string_view head(reinterpret_cast<const char*>(reader.unread().data()), reader.available());
  if (head.starts_with("SEQ") && head.size() > 3 && head[3] < ' ') {
    format.format = InputFormat::kSequenceFile;
  } else if (head.starts_with("\x93NUMPY")) {
    format.format = InputFormat::kNpy;
  } else if (path.ends_with(".csv") || path.ends_with(".tsv")) {
    format.format = InputFormat::kCsv;
    if (path.ends_with(".tsv")) format.delimiter = '\t';
  }
  return format;
}

}  // namespace onnx_serving
