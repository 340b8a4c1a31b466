#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "status.h"

namespace onnx_serving {

/** An open file, closed when it goes. */
class FileDescriptor {
 public:
  /** Opens a regular file; SRV_IO with path and reason otherwise. */
  static Result<FileDescriptor> openForReading(const std::string& path) {
    // O_NONBLOCK: a FIFO at this path must not stop the thread for ever; regular files ignore it.
    FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat facts;
    if (file.fd_ < 0 || fstat(file.fd_, &facts) != 0) return ioError("open", path, errno);
    if (S_ISDIR(facts.st_mode)) return ioError("open", path, EISDIR);
    if (!S_ISREG(facts.st_mode))
      return Status(code::kIo, "cannot open " + path + ": it is not a regular file");
    return file;
  }

  /** Takes over a file that was opened elsewhere. */
  static FileDescriptor own(int fd) { return FileDescriptor(fd); }

  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }

  int get() const { return fd_; }

 private:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace onnx_serving
