#include "npy_source.h"

#include <algorithm>
#include <optional>
#include <string>

#include "input_error.h"
#include "npy_elements.h"
#include "npy_header.h"

namespace onnx_serving {
namespace {

/** An array file with its elements, as rows of one size. */
struct RowsOfArray {
  ByteReader reader;
  NpyHeader header;
  uint64_t rows;
  /** Elements of a row. */
  uint64_t width;

  size_t rowBytes() const { return static_cast<size_t>(width) * npyBytes(header.type); }
};

std::string shapeText(const std::vector<uint64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

Status cutOff(const RowsOfArray& array, uint64_t row) {
  return badInput(array.reader.path(), array.reader.offset(),
                  "the file ends within row " + std::to_string(row) + " of " + std::to_string(array.rows) +
                      ": expected " + std::to_string(array.rowBytes()) + " bytes from here, found " +
                      std::to_string(array.reader.available()));
}

/** Reads the header of an array of `dimensions` dimensions and checks it against the size of the file. */
Result<RowsOfArray> openArray(ByteReader reader, size_t dimensions) {
  Result<NpyHeader> read = readNpyHeader(reader);
  if (!read.ok()) return read.status();
  NpyHeader& header = read.value();
  const auto refuse = [&](const std::string& problem) { return badInput(reader.path(), 10, problem); };
  if (header.shape.size() != dimensions) {
    return refuse("an array of shape " + shapeText(header.shape) + ", expected " +
                  std::to_string(dimensions) + (dimensions == 1 ? " dimension" : " dimensions"));
  }
  const uint64_t rows = header.shape[0];
  const uint64_t width = dimensions == 1 ? 1 : header.shape[1];
  // As floats a row may take more bytes than in the file.
  const uint64_t maxWidth = kMaxRecordBytes / std::max(npyBytes(header.type), sizeof(float));
  if (width == 0 || width > maxWidth) {
    return refuse("rows of " + std::to_string(width) + " elements, expected 1 to " +
                  std::to_string(maxWidth));
  }
  const uint64_t rowBytes = width * npyBytes(header.type);
  if (rows > (UINT64_MAX - header.bytes) / rowBytes) {
    return refuse("a shape of " + shapeText(header.shape) + ", expected one that fits a file");
  }
  const uint64_t end = header.bytes + rows * rowBytes;
  if (reader.size() && *reader.size() > end) {
    return badInput(reader.path(), end,
                    "the file goes on behind its last row, expected its end: " +
                        std::to_string(*reader.size() - end) + " bytes more");
  }
  return RowsOfArray{std::move(reader), std::move(header), rows, width};
}

class NpySource : public RowSource {
 public:
  NpySource(RowsOfArray array, std::optional<RowsOfArray> keys, const RowFormat& format, uint64_t begin,
            uint64_t end)
      : array_(std::move(array)),
        keys_(std::move(keys)),
        firstKey_(format.firstKey),
        rawBytes_(format.rawBytes) {
    row_ = rowAt(begin);
    // Rows that the file should have behind its end belong to the last range, which then reports them.
    const std::optional<uint64_t> size = array_.reader.size();
    lastRow_ = size && end >= *size && begin < *size ? array_.rows : rowAt(end);
    if (row_ > 0) seekTo(array_);
    if (row_ > 0 && keys_) seekTo(*keys_);
  }

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    while (row_ < lastRow_ && !limit.isReached(out)) {
      Status status = appendRun(out, limit);
      if (!status.ok()) return status;
    }
    return {};
  }

 private:
  /** The first row that starts at this place of the file or behind it. */
  uint64_t rowAt(uint64_t place) const {
    if (place <= array_.header.bytes) return 0;
    const uint64_t bytes = place - array_.header.bytes;
    return std::min<uint64_t>(bytes / array_.rowBytes() + (bytes % array_.rowBytes() != 0), array_.rows);
  }

  void seekTo(RowsOfArray& array) { array.reader.seek(array.header.bytes + row_ * array.rowBytes()); }

  /** The rows that lie in memory now, at least one. */
  Status appendRun(RowBatch& out, const RowLimit& limit) {
    const size_t rowBytes = array_.rowBytes();
    if (Status status = array_.reader.fill(rowBytes); !status.ok()) return status;
    size_t rows = array_.reader.available() / rowBytes;
    if (rows == 0) return cutOff(array_, row_);
    const bool isRaw = rawBytes_ && array_.header.type == NpyType::kU1;
    const auto width = static_cast<size_t>(array_.width);
    const size_t valueBytes = isRaw ? width : width * sizeof(float);
    rows = std::min({rows, static_cast<size_t>(std::min<uint64_t>(lastRow_ - row_, SIZE_MAX)),
                     limit.rows - out.rows(), (limit.bytes - out.bytes.size()) / valueBytes + 1});
    if (keys_) {
      Status status = appendKeys(rows, out);
      // The rows whose keys are good still come out.
      const size_t good = out.keys.size() - out.ends.size();
      appendValues(good, isRaw, valueBytes, out);
      return status;
    }
    for (size_t i = 0; i < rows; ++i) out.keys.push_back(firstKey_ + row_ + i);
    appendValues(rows, isRaw, valueBytes, out);
    return {};
  }

  void appendValues(size_t rows, bool isRaw, size_t valueBytes, RowBatch& out) {
    const std::byte* const from = array_.reader.unread().data();
    const size_t elements = rows * static_cast<size_t>(array_.width);
    uint64_t end = out.bytes.size();
    if (isRaw) {
      out.bytes.insert(out.bytes.end(), from, from + elements);
    } else {
      appendAsFloats(array_.header.type, from, elements, out.bytes);
    }
    for (size_t i = 0; i < rows; ++i) out.ends.push_back(end += valueBytes);
    array_.reader.skip(rows * array_.rowBytes());
    row_ += rows;
  }

  Status appendKeys(size_t rows, RowBatch& out) {
    ByteReader& reader = keys_->reader;
    const size_t keyBytes = keys_->rowBytes();
    if (Status status = reader.fill(rows * keyBytes); !status.ok()) return status;
    const size_t found = std::min(rows, reader.available() / keyBytes);
    size_t bad = 0;
    if (!appendAsKeys(keys_->header.type, reader.unread().data(), found, out.keys, bad)) {
      return badInput(reader.path(), reader.offset() + bad * keyBytes,
                      "key " + std::to_string(row_ + bad) + " is negative, expected 0 or more");
    }
    reader.skip(found * keyBytes);
    return found == rows ? Status() : cutOff(*keys_, row_ + found);
  }

  RowsOfArray array_;
  std::optional<RowsOfArray> keys_;
  uint64_t firstKey_;
  bool rawBytes_;
  uint64_t row_;
  /** Behind the last row of the range. */
  uint64_t lastRow_;
};

Result<RowsOfArray> openKeys(const std::string& path, const RowsOfArray& array) {
  Result<ByteReader> reader = ByteReader::open(path);
  if (!reader.ok()) return reader.status();
  Result<RowsOfArray> keys = openArray(std::move(reader.value()), 1);
  if (!keys.ok()) return keys;
  const NpyHeader& header = keys.value().header;
  const std::string name = keys.value().reader.path();
  if (header.type == NpyType::kF2 || header.type == NpyType::kF4 || header.type == NpyType::kF8) {
    return badInput(name, 10, "keys of type \"" + header.descr + "\", expected integers");
  }
  if (keys.value().rows != array.rows) {
    return badInput(name, 10,
                    std::to_string(keys.value().rows) + " keys, expected " + std::to_string(array.rows) +
                        " as " + array.reader.path() + " has rows");
  }
  return keys;
}

}  // namespace

Result<std::unique_ptr<RowSource>> openNpySource(ByteReader reader, uint64_t begin, uint64_t end,
                                                 const RowFormat& format) {
  Result<RowsOfArray> array = openArray(std::move(reader), 2);
  if (!array.ok()) return array.status();
  std::optional<RowsOfArray> keys;
  if (!format.keysPath.empty()) {
    Result<RowsOfArray> opened = openKeys(format.keysPath, array.value());
    if (!opened.ok()) return opened.status();
    keys.emplace(std::move(opened.value()));
  } else if (array.value().rows > 0 && format.firstKey > UINT64_MAX - (array.value().rows - 1)) {
    return badInput(array.value().reader.path(), 10,
                    std::to_string(array.value().rows) + " rows, expected fewer: from the first key " +
                        std::to_string(format.firstKey) + " their keys pass 18446744073709551615");
  }
  return std::unique_ptr<RowSource>(
      std::make_unique<NpySource>(std::move(array.value()), std::move(keys), format, begin, end));
}

}  // namespace onnx_serving
