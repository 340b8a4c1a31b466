#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "check.h"

/** A file of `bytes` times the letter x, removed at the end. */
class TemporaryFile {
 public:
  explicit TemporaryFile(size_t bytes) {
    fd_ = mkstemp(path_.data());
    CHECK(fd_ >= 0);
    const std::string content(bytes, 'x');
    CHECK(write(fd_, content.data(), bytes) == static_cast<ssize_t>(bytes));
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    close(fd_);
    unlink(path_.c_str());
  }

  const std::string& path() const { return path_; }
  void truncate(off_t bytes) { CHECK(ftruncate(fd_, bytes) == 0); }

 private:
  std::string path_ = "/tmp/onnx-serving-test-XXXXXX";
  int fd_;
};

/** An empty directory, removed at the end with all that is in it. */
class TemporaryDirectory {
 public:
  TemporaryDirectory() { CHECK(mkdtemp(path_.data()) != nullptr); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/onnx-serving-test-XXXXXX";
};
