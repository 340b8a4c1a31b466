#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../status.h"
#include "row_format.h"

namespace onnx_serving {

static_assert(std::endian::native == std::endian::little, "keys and floats are copied as they lie in files");

/** Rows in memory: keys, and values one behind the other. */
struct RowBatch {
  std::vector<uint64_t> keys;
  /** Where the value of each row ends in `bytes`; it begins where the one before ends. */
  std::vector<uint64_t> ends;
  std::vector<std::byte> bytes;

  size_t rows() const { return keys.size(); }
  std::span<const std::byte> value(size_t row) const {
    const uint64_t begin = row == 0 ? 0 : ends[row - 1];
    return {bytes.data() + begin, static_cast<size_t>(ends[row] - begin)};
  }
  void append(uint64_t key, std::span<const std::byte> value) {
    bytes.insert(bytes.end(), value.begin(), value.end());
    closeRow(key);
  }
  /** Makes a row of what was appended to `bytes` since the last one. */
  void closeRow(uint64_t key) {
    keys.push_back(key);
    ends.push_back(bytes.size());
  }
  /** Forgets the rows and keeps the memory. */
  void clear() {
    keys.clear();
    ends.clear();
    bytes.clear();
  }
};

/** When one call of `read` has appended enough. */
struct RowLimit {
  size_t rows;
  size_t bytes;
  bool isReached(const RowBatch& batch) const {
    return batch.keys.size() >= rows || batch.bytes.size() >= bytes;
  }
};

/** Bytes of values after which one call of `read` appends no further row. */
inline constexpr size_t kReadBytes = size_t{16} << 20;

/** The rows of one range of one file, in the order of the file. For one thread at a time. */
class RowSource {
 public:
  virtual ~RowSource() = default;

  /**
   * Appends at most `maxRows` rows (at least 1), fewer when their values pass kReadBytes. Blocks on the file.
   *
   * @return the rows appended, 0 only at the end. Damage is SRV_BAD_INPUT_FILE and a failing disk SRV_IO,
   * with the file and the place, once all rows before it were given; from then on every call gives it again.
   * `out` always holds whole rows.
   */
  Result<size_t> read(RowBatch& out, size_t maxRows);

 protected:
  /** Appends whole rows until the limit, the end or a fault; what it leaves of a row behind a fault is cut.
   */
  virtual Status append(RowBatch& out, const RowLimit& limit) = 0;

 private:
  Status fault_;
};

/** The name under which standard input is read, as one range. */
inline constexpr const char* kStandardInput = "-";

/**
 * A part of a file: [begin, end) owns the records that start in it. In sequence files those are the records
 * behind the sync escapes that start in it, up to the next escape; the first run of records belongs to byte
 * 0.
 */
struct InputRange {
  std::string path;
  uint64_t begin = 0;
  /** May lie behind the end of the file. */
  uint64_t end = UINT64_MAX;
};

/**
 * Cuts a file of any format into ranges of about `targetBytes` for several threads: their rows, one range
 * after the other, are the rows of the file. At least one range; standard input is never cut. SRV_IO when
 * there is no such file.
 *
 * A value in a sequence file that holds the file's own random sync marker behind FF FF FF FF would be cut,
 * here as in any reader that starts in the middle.
 */
Result<std::vector<InputRange>> splitInput(const std::string& path, uint64_t targetBytes);

/**
 * Opens a range. Reads the head of the file: its header, a CSV file's first line, a sequence file's first
 * record. SRV_BAD_INPUT_FILE when that is not what the format says, SRV_IO. Memory: one block of 1 MiB, more
 * only while a record is larger, and that up to kMaxRecordBytes.
 */
Result<std::unique_ptr<RowSource>> openRowSource(const InputRange& range, const RowFormat& format);

/**
 * As openRowSource, for a file that lies in memory (and stays there while the source is used).
 *
 * @param range `path` is only what messages call it
 */
Result<std::unique_ptr<RowSource>> openRowSource(std::span<const std::byte> memory, const InputRange& range,
                                                 const RowFormat& format);

}  // namespace onnx_serving
