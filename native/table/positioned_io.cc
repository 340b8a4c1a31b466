#include "positioned_io.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace onnx_serving {
namespace {

/** More than this in one call is refused by some systems. */
constexpr size_t kMaxPiece = size_t{1} << 30;

}  // namespace

Status writeAt(int fd, const std::string& path, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t done =
        pwrite(fd, bytes.data(), std::min(bytes.size(), kMaxPiece), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return ioError("write", path, done < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return {};
}

Status readAt(int fd, const std::string& path, std::span<std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t done =
        pread(fd, bytes.data(), std::min(bytes.size(), kMaxPiece), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return ioError("read", path, errno);
    if (done == 0) {
      return {code::kIo, "cannot read " + path + ": it ends at byte " + std::to_string(offset) +
                             ", expected " + std::to_string(bytes.size()) + " bytes more"};
    }
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return {};
}

}  // namespace onnx_serving
