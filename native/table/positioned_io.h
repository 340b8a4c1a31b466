#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../status.h"

namespace onnx_serving {

/** Writes all bytes at a place of a file; SRV_IO with the path, also when the disk is full. */
Status writeAt(int fd, const std::string& path, std::span<const std::byte> bytes, uint64_t offset);

/** Reads bytes that are in the file; SRV_IO with the path, also when the file ends before them. */
Status readAt(int fd, const std::string& path, std::span<std::byte> bytes, uint64_t offset);

}  // namespace onnx_serving
