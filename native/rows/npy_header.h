#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../status.h"
#include "byte_reader.h"

namespace onnx_serving {

/** Element types of NumPy arrays that are read; always little-endian. */
enum class NpyType : uint8_t { kF2, kF4, kF8, kI1, kU1, kI2, kU2, kI4, kU4, kI8, kU8 };

/** Bytes of one element. */
size_t npyBytes(NpyType type);

/** The beginning of a .npy file. */
struct NpyHeader {
  NpyType type;
  /** As in the file: "<f4". */
  std::string descr;
  std::vector<uint64_t> shape;
  /** Bytes of the header: where the elements begin. */
  uint64_t bytes;
};

/**
 * Reads the header of a .npy file, version 1 to 3, and leaves the reader behind it.
 *
 * SRV_BAD_INPUT_FILE for what is none, is cut off, has a header over 64 KiB, more than 8 dimensions, an
 * element type that is not in NpyType, big-endian elements, or Fortran order. SRV_IO.
 */
Result<NpyHeader> readNpyHeader(ByteReader& reader);

}  // namespace onnx_serving
