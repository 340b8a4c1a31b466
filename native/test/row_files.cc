#include "row_files.h"

#include <algorithm>
#include <random>

#include "check.h"

using namespace onnx_serving;

RowsRead readRows(std::string_view file, const RowFormat& format, uint64_t begin, uint64_t end,
                  size_t perCall) {
  RowsRead read;
  // Memory of exactly this size, so that the address sanitizer sees a read behind it.
  const std::vector<char> copy(file.begin(), file.end());
  auto opened = openRowSource(std::as_bytes(std::span(copy)), InputRange{"rows.bin", begin, end}, format);
  if (!opened.ok()) {
    read.error = opened.status().message();
    CHECK(!read.error.empty());
    return read;
  }
  RowBatch batch;
  for (;;) {
    if (batch.rows() >= 2 * perCall) batch.clear();
    const size_t before = batch.rows();
    Result<size_t> rows = opened.value()->read(batch, perCall);
    CHECK(batch.keys.size() == batch.ends.size());
    CHECK(batch.bytes.size() == (batch.ends.empty() ? 0 : batch.ends.back()));
    if (!rows.ok()) {
      read.error = rows.status().message();
      CHECK(batch.rows() == before && !read.error.empty());
      CHECK(opened.value()->read(batch, perCall).status().message() == read.error);
      return read;
    }
    CHECK(rows.value() <= perCall && batch.rows() == before + rows.value());
    if (rows.value() == 0) return read;
    for (size_t row = before; row < batch.rows(); ++row) {
      const std::span<const std::byte> value = batch.value(row);
      read.rows.emplace_back(batch.keys[row],
                             std::string(reinterpret_cast<const char*>(value.data()), value.size()));
    }
  }
}

void checkRanges(std::string_view file, const RowFormat& format) {
  std::mt19937 random(7);
  const RowsRead whole = readRows(file, format, 0, UINT64_MAX, 1000);
  CHECK(whole.error.empty());
  for (int round = 0; round < 200; ++round) {
    const uint64_t longest = 1 + random() % (round < 20 ? 3 : file.size() + 1);
    RowsRead joined;
    for (uint64_t begin = 0; begin < file.size() || begin == 0;) {
      const uint64_t end = begin + 1 + random() % longest;
      const RowsRead part = readRows(file, format, begin, end, 1 + random() % 5);
      CHECK(part.error.empty());
      joined.rows.insert(joined.rows.end(), part.rows.begin(), part.rows.end());
      begin = end;
    }
    CHECK(joined.rows == whole.rows);
  }
}

void checkDamage(std::string_view file, const RowFormat& format, bool (*isCleanCut)(std::string_view)) {
  const RowsRead whole = readRows(file, format);
  CHECK(whole.error.empty());
  for (size_t length = 0; length < file.size(); ++length) {
    const RowsRead cut = readRows(file.substr(0, length), format);
    CHECK(cut.rows.size() <= whole.rows.size());
    // Of a line that is cut off nobody can tell that it is.
    const bool isText = format.format == InputFormat::kCsv || format.format == InputFormat::kKeyValue;
    const auto sure = cut.rows.end() - (isText && !cut.rows.empty() ? 1 : 0);
    CHECK(std::equal(cut.rows.begin(), sure, whole.rows.begin()));
    CHECK(cut.error.empty() == isCleanCut(file.substr(0, length)));
    CHECK(cut.error.empty() || cut.error.starts_with("rows.bin, "));
  }
  for (size_t at = 0; at < file.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xFF, 0x20}) {
      std::string changed(file);
      changed[at] = static_cast<char>(changed[at] ^ change);
      const RowsRead read = readRows(changed, format);
      CHECK(read.error.empty() || read.error.starts_with("rows.bin, "));
    }
  }
}
