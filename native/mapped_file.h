#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "status.h"

namespace onnx_serving {

/** How the kernel should expect a mapping to be read. */
enum class Advice { kNormal, kSequential, kRandom, kWillNeed };

struct MapOptions {
  Advice advice = Advice::kNormal;
  /** Brings the pages in before returning, which blocks on the disk. */
  bool prefault = false;
  /** Asks for transparent huge pages, where the kernel has them for files. */
  bool hugePages = false;
  /** Lets the mapping be written: a written page becomes private to the process, the file never changes. */
  bool copyOnWrite = false;
};

/** A regular file's bytes in memory, unmapped with the last owner. Safe to read from any thread. */
class MappedFile {
 public:
  /** Maps the whole file, private to this process; SRV_IO with path and reason. */
  static Result<std::shared_ptr<MappedFile>> open(const std::string& path, const MapOptions& options);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  /** All bytes of the file, empty for an empty file. Written only if opened with `copyOnWrite`. */
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace onnx_serving
