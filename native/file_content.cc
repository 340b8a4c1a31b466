#include "file_content.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>
#include <system_error>

#include "file_descriptor.h"
#include "xxh64.h"

namespace onnx_serving {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

bool isSameContent(const struct stat& before, const struct stat& after) {
#ifdef __APPLE__
  const auto &then = before.st_mtimespec, &now = after.st_mtimespec;
#else
  const auto &then = before.st_mtim, &now = after.st_mtim;
#endif
  return before.st_size == after.st_size && then.tv_sec == now.tv_sec && then.tv_nsec == now.tv_nsec;
}

/** Hands every piece of the file to `take`; returns the bytes read. */
template <class Take>
Result<uint64_t> readPieces(const std::string& path, Take take) {
  Result<FileDescriptor> opened = FileDescriptor::openForReading(path);
  if (!opened.ok()) return opened.status();
  const int fd = opened.value().get();
  struct stat before;
  if (fstat(fd, &before) != 0) return ioError("read", path, errno);
#ifdef POSIX_FADV_WILLNEED
  // Only a hint: what it does not bring, the reads below do.
  (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
#endif
  const auto piece = std::make_unique<std::byte[]>(kPieceBytes);
  const auto size = static_cast<uint64_t>(before.st_size);
  for (uint64_t done = 0; done < size;) {
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, size - done));
    const ssize_t got = pread(fd, piece.get(), wanted, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ioError("read", path, errno);
    if (got == 0) {
      return Status(code::kIo, "cannot read " + path + ": it shrank from " + std::to_string(size) + " to " +
                                   std::to_string(done) + " bytes while it was read");
    }
    take(std::span<const std::byte>(piece.get(), static_cast<size_t>(got)));
    done += static_cast<uint64_t>(got);
  }
  struct stat after;
  if (fstat(fd, &after) != 0) return ioError("read", path, errno);
  if (!isSameContent(before, after)) {
    return Status(code::kIo, "cannot read " + path + ": it changed while it was read");
  }
  return size;
}

}  // namespace

Result<uint64_t> hashFile(const std::string& path) {
  Xxh64 hash;
  Result<uint64_t> read = readPieces(path, [&hash](std::span<const std::byte> piece) { hash.update(piece); });
  if (!read.ok()) return read.status();
  return hash.digest();
}

Result<uint64_t> prefaultFile(const std::string& path) {
  return readPieces(path, [](std::span<const std::byte>) {});
}

}  // namespace onnx_serving
