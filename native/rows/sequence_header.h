#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../status.h"
#include "byte_reader.h"

namespace onnx_serving {

/** What follows the bytes FF FF FF FF in a sync escape; one for each file. */
using SyncMarker = std::array<std::byte, 16>;

/** A record length that is none: the sync marker follows. */
inline constexpr uint32_t kSyncEscape = 0xFFFFFFFF;
/** Bytes of an escape with its marker. */
inline constexpr size_t kSyncBytes = 4 + std::tuple_size_v<SyncMarker>;

/** The class that our writer, and Hadoop jobs with binary keys and values, name. */
inline constexpr const char* kBytesWritable = "org.apache.hadoop.io.BytesWritable";

/** The beginning of a sequence file. */
struct SequenceHeader {
  std::string keyClass;
  std::string valueClass;
  std::vector<std::pair<std::string, std::string>> metadata;
  SyncMarker marker;
  /** Bytes of the header: where the first record begins. */
  uint64_t bytes;
};

/**
 * Reads the header of an uncompressed sequence file of version 6 and leaves the reader behind it.
 *
 * SRV_BAD_INPUT_FILE for anything else: no sequence file, another version, a compressed one (with its codec),
 * one that is cut off, texts over 64 KiB, more than 1024 entries of metadata. SRV_IO.
 */
Result<SequenceHeader> readSequenceHeader(ByteReader& reader);

/** Four bytes, the highest first. */
inline uint32_t readBigEndian32(const std::byte* at) {
  return std::to_integer<uint32_t>(at[0]) << 24 | std::to_integer<uint32_t>(at[1]) << 16 |
         std::to_integer<uint32_t>(at[2]) << 8 | std::to_integer<uint32_t>(at[3]);
}

}  // namespace onnx_serving
