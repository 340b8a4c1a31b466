#include "sequence_writer.h"

#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>

namespace onnx_serving {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr uint64_t kEscapeEvery = 2000;

Result<FileDescriptor> createFile(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return ioError("create", path, errno);
  return FileDescriptor::own(fd);
}

/** Brings the name itself to the disk. */
Status syncDirectory(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ioError("open", directory, errno);
  const FileDescriptor file = FileDescriptor::own(fd);
  // Some file systems have no such thing for directories.
  if (fsync(fd) != 0 && errno != EINVAL) return ioError("write", directory, errno);
  return {};
}

}  // namespace

Result<std::unique_ptr<SequenceWriter>> SequenceWriter::open(std::string path,
                                                             const std::optional<SyncMarker>& marker) {
  struct stat facts;
  if (stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode)) {
    return Status(code::kIo, "cannot create " + path + ": something that is no regular file is there");
  }
  static std::atomic<uint64_t> count{0};
  std::string temporaryPath =
      path + ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(count.fetch_add(1));
  // Left behind by a process of the same number.
  (void)unlink(temporaryPath.c_str());
  Result<FileDescriptor> file = createFile(temporaryPath);
  if (!file.ok()) return file.status();
  std::unique_ptr<SequenceWriter> writer(
      new SequenceWriter(std::move(path), std::move(temporaryPath), std::move(file.value())));
  if (marker) {
    writer->marker_ = *marker;
  } else if (getentropy(writer->marker_.data(), writer->marker_.size()) != 0) {
    return Status(code::kIo, "cannot create " + writer->path_ + ": no random bytes for its sync marker");
  }
  writer->appendHeader();
  return writer;
}

SequenceWriter::SequenceWriter(std::string path, std::string temporaryPath, FileDescriptor file)
    : path_(std::move(path)), temporaryPath_(std::move(temporaryPath)), file_(std::move(file)) {
  buffer_.reserve(kBufferBytes);
}

SequenceWriter::~SequenceWriter() {
  if (file_) (void)unlink(temporaryPath_.c_str());
}

void SequenceWriter::appendBigEndian32(uint32_t value) {
  const std::array<std::byte, 4> bytes{std::byte(value >> 24), std::byte(value >> 16), std::byte(value >> 8),
                                       std::byte(value)};
  append(bytes);
}

/** Names of fewer than 128 bytes: their length is one byte. */
void SequenceWriter::appendClass(const char* name) {
  const size_t length = std::strlen(name);
  buffer_.push_back(static_cast<std::byte>(length));
  append(std::as_bytes(std::span(name, length)));
}

void SequenceWriter::appendHeader() {
  append(std::as_bytes(std::span("SEQ\x06", 4)));
  appendClass(kBytesWritable);
  appendClass(kBytesWritable);
  // Not compressed, nor in blocks; no metadata.
  buffer_.insert(buffer_.end(), 2, std::byte{0});
  appendBigEndian32(0);
  append(marker_);
}

Status SequenceWriter::write(uint64_t key, std::span<const std::byte> value) {
  const size_t length = sizeof key + value.size();
  if (value.size() > kMaxRecordBytes - sizeof key) {
    return Status(code::kBadInputFile, "the value of key " + std::to_string(key) + " has " +
                                           std::to_string(value.size()) + " bytes, expected at most " +
                                           std::to_string(kMaxRecordBytes - sizeof key) + " in " + path_);
  }
  appendBigEndian32(static_cast<uint32_t>(length));
  appendBigEndian32(sizeof key);
  append(std::as_bytes(std::span(&key, 1)));
  append(value);
  ++records_;
  sinceEscape_ += length;
  if (sinceEscape_ >= kEscapeEvery) {
    appendBigEndian32(kSyncEscape);
    append(marker_);
    sinceEscape_ = 0;
  }
  return buffer_.size() >= kBufferBytes ? flush() : Status();
}

Status SequenceWriter::write(const RowBatch& rows) {
  for (size_t row = 0; row < rows.rows(); ++row) {
    if (Status status = write(rows.keys[row], rows.value(row)); !status.ok()) return status;
  }
  return {};
}

Status SequenceWriter::flush() {
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t wrote = ::write(file_->get(), buffer_.data() + done, buffer_.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return ioError("write", temporaryPath_, errno);
    done += static_cast<size_t>(wrote);
  }
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

Status SequenceWriter::finish() {
  Status status = flush();
  if (status.ok() && fsync(file_->get()) != 0) status = ioError("write", temporaryPath_, errno);
  if (status.ok() && std::rename(temporaryPath_.c_str(), path_.c_str()) != 0) {
    status = ioError("rename", temporaryPath_ + " to " + path_, errno);
  }
  if (!status.ok()) return status;
  file_.reset();
  return syncDirectory(path_);
}

}  // namespace onnx_serving
