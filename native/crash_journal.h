#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "status.h"

namespace onnx_serving {

/**
 * Tells after a native crash which model was being run, and by which thread.
 *
 * A small file is mapped and shared, so that what was written last is in it however the process ends. Threads
 * note what they run; a handler of the fatal signals notes the signal and its thread. A process that is
 * killed from outside (SIGKILL, out of memory) notes nothing, so that its models are not blamed.
 *
 * File, in the machine's byte order, 32-bit words: magic, format version, signal (0: none), thread of the
 * signal, number of slots, 3 unused, then for each slot the thread and the model that it runs (0: none).
 */
class CrashJournal {
 public:
  static constexpr uint32_t kMagic = 0x4A53584F;  // "OXSJ"
  static constexpr uint32_t kFormat = 1;
  static constexpr size_t kHeaderWords = 8;
  static constexpr size_t kSlots = 1024;
  static constexpr size_t kBytes = (kHeaderWords + 2 * kSlots) * sizeof(uint32_t);

  /** Creates the file and installs the signal handlers. Once per process; a second call is SRV_INTERNAL. */
  static Status open(const std::string& path);

  /** Notes that the calling thread runs a model (not 0); `leave` takes it back. Without a journal: nothing.
   */
  static void enter(uint32_t model);
  static void leave();

  /** From now on a fatal signal is the end of the process on purpose and not noted. */
  static void close();
};

}  // namespace onnx_serving
