#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "../file_descriptor.h"
#include "../status.h"

namespace onnx_serving {

/** Reads a file forward in blocks, or bytes in memory as if they were a file. For one thread at a time. */
class ByteReader {
 public:
  /** At the beginning of a regular file, or of standard input for "-". SRV_IO. */
  static Result<ByteReader> open(const std::string& path);
  /** Over memory of the caller, who keeps it; `name` stands in messages. */
  ByteReader(std::span<const std::byte> memory, std::string name);

  /** What messages call the file. */
  const std::string& path() const { return path_; }
  /** Bytes of the whole file when it was opened; absent for standard input. */
  std::optional<uint64_t> size() const { return size_; }
  /** Place in the file of the first unread byte. */
  uint64_t offset() const { return lastOffset_ - static_cast<uint64_t>(last_ - first_); }
  /** What lies in memory and is not read yet; valid until the next `fill` or `seek`. */
  std::span<const std::byte> unread() const { return {first_, last_}; }
  size_t available() const { return static_cast<size_t>(last_ - first_); }

  /** Brings in blocks until `wanted` bytes are unread, or the file ends: then there are fewer. SRV_IO. */
  Status fill(size_t wanted) { return available() >= wanted ? Status() : fillSlowly(wanted); }
  /** Counts unread bytes as read. */
  void skip(size_t bytes) { first_ += bytes; }
  /** Goes on at another place. Not for standard input. */
  void seek(uint64_t offset);

 private:
  ByteReader() = default;
  Status fillSlowly(size_t wanted);
  void makeRoom();
  /** Bytes read, 0 at the end. */
  Result<size_t> readSome(std::byte* to, size_t bytes);

  std::string path_;
  /** Absent for memory and for standard input. */
  std::optional<FileDescriptor> file_;
  bool isMemory_ = false;
  std::optional<uint64_t> size_;
  std::unique_ptr<std::byte[]> block_;
  size_t blockBytes_ = 0;
  const std::byte* first_ = nullptr;
  const std::byte* last_ = nullptr;
  /** Place in the file of `last_`. */
  uint64_t lastOffset_ = 0;
  bool isAtEnd_ = false;
};

}  // namespace onnx_serving
