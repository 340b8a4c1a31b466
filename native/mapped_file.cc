#include "mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "file_descriptor.h"

namespace onnx_serving {
namespace {

int adviceFlag(Advice advice) {
  switch (advice) {
    case Advice::kSequential:
      return MADV_SEQUENTIAL;
    case Advice::kRandom:
      return MADV_RANDOM;
    case Advice::kWillNeed:
      return MADV_WILLNEED;
    case Advice::kNormal:
      break;
  }
  return MADV_NORMAL;
}

void prefault(void* memory, size_t bytes) {
  // MAP_POPULATE would write-fault a writable private mapping, that is copy the whole file.
#ifdef MADV_POPULATE_READ
  constexpr int kPopulateRead = MADV_POPULATE_READ;
#else
  constexpr int kPopulateRead = 22;
#endif
#ifdef __linux__
  if (madvise(memory, bytes, kPopulateRead) == 0) return;
#else
  (void)kPopulateRead;
#endif
  (void)madvise(memory, bytes, MADV_WILLNEED);
}

}  // namespace

Status ioError(const char* action, const std::string& path, int error) {
  return {code::kIo,
          std::string("cannot ") + action + " " + path + ": " + std::system_category().message(error)};
}

Result<std::shared_ptr<MappedFile>> MappedFile::open(const std::string& path, const MapOptions& options) {
  Result<FileDescriptor> file = FileDescriptor::openForReading(path);
  if (!file.ok()) return file.status();
  struct stat facts;
  if (fstat(file.value().get(), &facts) != 0) return ioError("map", path, errno);
  const auto size = static_cast<size_t>(facts.st_size);
  if (size == 0) return std::shared_ptr<MappedFile>(new MappedFile({}));

  const int protection = PROT_READ | (options.copyOnWrite ? PROT_WRITE : 0);
  void* memory = mmap(nullptr, size, protection, MAP_PRIVATE, file.value().get(), 0);
  if (memory == MAP_FAILED) return ioError("map", path, errno);
  std::shared_ptr<MappedFile> mapped(new MappedFile({static_cast<std::byte*>(memory), size}));

  // Advice only: a kernel that does not take it serves the same bytes.
  (void)madvise(memory, size, adviceFlag(options.advice));
#ifdef MADV_HUGEPAGE
  if (options.hugePages) (void)madvise(memory, size, MADV_HUGEPAGE);
#endif
  if (options.prefault) prefault(memory, size);
  return mapped;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace onnx_serving
