#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../file_descriptor.h"
#include "../status.h"
#include "row_source.h"
#include "sequence_header.h"

namespace onnx_serving {

/**
 * Writes a sequence file: the 96-byte header, records without inner lengths, and a sync escape behind every
 * record that brings the record lengths since the last one to 2000 or more.
 *
 * The file is made under a temporary name beside its place and takes the name at `finish`, so that nobody
 * sees a part of it. A writer that goes without `finish` removes what it wrote. For one thread at a time.
 */
class SequenceWriter {
 public:
  /**
   * Begins a file that will replace what is at `path`.
   *
   * @param marker the sync marker, for files that must come out equal; random when absent
   * SRV_IO, also when something that is no regular file is at `path`.
   */
  static Result<std::unique_ptr<SequenceWriter>> open(std::string path,
                                                      const std::optional<SyncMarker>& marker = std::nullopt);
  SequenceWriter(const SequenceWriter&) = delete;
  SequenceWriter& operator=(const SequenceWriter&) = delete;
  ~SequenceWriter();

  /** Adds a record. SRV_IO; SRV_BAD_INPUT_FILE for a value that readers would refuse, over kMaxRecordBytes
   * - 8. */
  Status write(uint64_t key, std::span<const std::byte> value);
  /** Adds the rows of a batch. */
  Status write(const RowBatch& rows);
  /** Brings the file to the disk and gives it its name. The last call; after a failure the file goes with the
   * writer. */
  Status finish();

  /** Records written so far. */
  uint64_t records() const { return records_; }
  /** Bytes of the file so far. */
  uint64_t bytes() const { return flushed_ + buffer_.size(); }

 private:
  SequenceWriter(std::string path, std::string temporaryPath, FileDescriptor file);

  void append(std::span<const std::byte> bytes) { buffer_.insert(buffer_.end(), bytes.begin(), bytes.end()); }
  void appendBigEndian32(uint32_t value);
  void appendClass(const char* name);
  void appendHeader();
  Status flush();

  std::string path_;
  std::string temporaryPath_;
  std::optional<FileDescriptor> file_;
  SyncMarker marker_{};
  std::vector<std::byte> buffer_;
  uint64_t flushed_ = 0;
  uint64_t records_ = 0;
  /** Record lengths since the last escape. */
  uint64_t sinceEscape_ = 0;
};

}  // namespace onnx_serving
