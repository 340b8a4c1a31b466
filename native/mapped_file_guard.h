#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "status.h"

namespace onnx_serving {

/**
 * Lets the process survive a mapped file that somebody truncated, whoever mapped it (the engine's weights
 * too).
 *
 * Reading a page that is no longer in its file raises SIGBUS. The guard puts zeros there, counts that and
 * lets the reader go on; the owner of the file looks at the count and stops trusting the answers. In a
 * mapping that nobody writes, all that lies behind the page is replaced with it: behind the end of a file
 * there is no other page, and a mapping in tens of thousands of pieces is more than the kernel allows. Every
 * other SIGBUS goes to the handler that was there before. Linux only; elsewhere installing does nothing.
 */
class MappedFileGuard {
 public:
  /** Installs the handler once per process; later calls do nothing. Thread-safe. */
  static Status install();

  /** How often pages were replaced by zeros since the process started. */
  static uint64_t faults();

  /** Inode numbers of the files of the last replaced pages (64 at most), each once. */
  static std::vector<uint64_t> faultedInodes();

  /**
   * Whether pages of these bytes, which are mapped from a file, were replaced since `faults` was `since`.
   * Knows of the last 64 replacements only: who needs it later remembers the answer.
   */
  static bool hasLost(std::span<const std::byte> bytes, uint64_t since);
};

/** What the guard needs to know of the mapping that holds an address. */
struct MappingFacts {
  /** 0 for a mapping of no file. */
  uint64_t inode = 0;
  /** Whether it has a path, or a name such as [stack]. */
  bool isNamed = false;
  bool isWritable = false;
  /** Where the mapping ends. */
  uintptr_t end = 0;
};

/** Finds the file mapping that holds `address` in a text of /proc/self/maps. Async-signal-safe, feed by
 * pieces. */
class MappingSearch {
 public:
  explicit MappingSearch(uintptr_t address) : address_(address) {}
  /** Reads the next piece of the text; true once the mapping is found. */
  bool feed(const char* text, size_t length);
  const MappingFacts& facts() const { return facts_; }

 private:
  enum class Field : uint8_t { kStart, kEnd, kPermissions, kOffset, kDevice, kInode, kRest };
  bool endLine();

  uintptr_t address_;
  Field field_ = Field::kStart;
  uintptr_t start_ = 0;
  uintptr_t end_ = 0;
  int permissionIndex_ = 0;
  MappingFacts facts_;
};

}  // namespace onnx_serving
