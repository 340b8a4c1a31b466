#pragma once

#include <cstdint>
#include <string>

#include "status.h"

namespace onnx_serving {

/**
 * XXH64 of a file's bytes. The file is read, never mapped, so one that shrinks meanwhile is SRV_IO, not a
 * signal. Blocks on the disk.
 */
Result<uint64_t> hashFile(const std::string& path);

/** Brings all pages of a file into the page cache and returns its bytes. Blocks until they are there. */
Result<uint64_t> prefaultFile(const std::string& path);

}  // namespace onnx_serving
