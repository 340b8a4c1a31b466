#include "byte_reader.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "row_source.h"

namespace onnx_serving {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;

}  // namespace

Result<ByteReader> ByteReader::open(const std::string& path) {
  ByteReader reader;
  if (path == kStandardInput) {
    reader.path_ = "standard input";
    return reader;
  }
  reader.path_ = path;
  Result<FileDescriptor> file = FileDescriptor::openForReading(path);
  if (!file.ok()) return file.status();
  struct stat facts;
  if (fstat(file.value().get(), &facts) != 0) return ioError("read", path, errno);
  reader.size_ = static_cast<uint64_t>(facts.st_size);
  reader.file_.emplace(std::move(file.value()));
#ifdef POSIX_FADV_SEQUENTIAL
  (void)posix_fadvise(reader.file_->get(), 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
  return reader;
}

ByteReader::ByteReader(std::span<const std::byte> memory, std::string name)
    : path_(std::move(name)),
      isMemory_(true),
      size_(memory.size()),
      first_(memory.data()),
      last_(memory.data() + memory.size()),
      lastOffset_(memory.size()),
      isAtEnd_(true) {}

void ByteReader::seek(uint64_t offset) {
  if (isMemory_) {
    first_ = last_ - (lastOffset_ - std::min(offset, lastOffset_));
    return;
  }
  first_ = last_ = block_.get();
  lastOffset_ = offset;
  isAtEnd_ = false;
}

Status ByteReader::fillSlowly(size_t wanted) {
  while (available() < wanted && !isAtEnd_) {
    makeRoom();
    std::byte* const to = block_.get() + (last_ - block_.get());
    Result<size_t> got = readSome(to, static_cast<size_t>(block_.get() + blockBytes_ - to));
    if (!got.ok()) return got.status();
    isAtEnd_ = got.value() == 0;
    last_ += got.value();
    lastOffset_ += got.value();
  }
  return {};
}

/** The block grows only when it is full of one record, so that a record that lies about its length costs
 * nothing. */
void ByteReader::makeRoom() {
  const size_t kept = available();
  if (kept > 0 && last_ != block_.get() + blockBytes_) return;
  if (kept == blockBytes_) {
    const size_t grown = std::max(kBlockBytes, 2 * blockBytes_);
    auto larger = std::make_unique_for_overwrite<std::byte[]>(grown);
    if (kept > 0) std::memcpy(larger.get(), first_, kept);
    block_ = std::move(larger);
    blockBytes_ = grown;
  } else if (kept > 0) {
    std::memmove(block_.get(), first_, kept);
  }
  first_ = block_.get();
  last_ = first_ + kept;
}

Result<size_t> ByteReader::readSome(std::byte* to, size_t bytes) {
  for (;;) {
    const ssize_t got = file_ ? pread(file_->get(), to, bytes, static_cast<off_t>(lastOffset_))
                              : ::read(STDIN_FILENO, to, bytes);
    if (got >= 0) return static_cast<size_t>(got);
    // Whoever shares standard input with us may have made it non-blocking.
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd waited{STDIN_FILENO, POLLIN, 0};
      (void)poll(&waited, 1, -1);
    } else if (errno != EINTR) {
      return ioError("read", path_, errno);
    }
  }
}

}  // namespace onnx_serving
