#include "sequence_header.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "hadoop_vint.h"
#include "input_error.h"

namespace onnx_serving {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 10;
constexpr uint32_t kMaxMetadata = 1024;

/** Reads one thing after the other; after the first problem all later ones are empty. */
class HeaderReader {
 public:
  explicit HeaderReader(ByteReader& reader) : reader_(reader) {}

  const Status& status() const { return status_; }

  /** The next bytes, valid until the next call; empty when there is a problem. */
  std::span<const uint8_t> bytes(size_t count, const char* what) {
    if (!has(count, what)) return {};
    const auto* const at = reinterpret_cast<const uint8_t*>(reader_.unread().data());
    reader_.skip(count);
    return {at, count};
  }

  std::string text(const char* what) {
    const uint64_t place = reader_.offset();
    if (!has(1, what)) return {};
    const size_t lengthBytes = hadoopVIntBytes(std::to_integer<uint8_t>(reader_.unread()[0]));
    const std::span<const uint8_t> encoded = bytes(lengthBytes, what);
    if (encoded.empty()) return {};
    const int64_t length = readHadoopVInt(encoded);
    if (length < 0 || length > static_cast<int64_t>(kMaxTextBytes)) {
      refuse(place, std::string(what) + " has a length of " + std::to_string(length) + ", expected 0 to " +
                        std::to_string(kMaxTextBytes) + " bytes");
      return {};
    }
    const std::span<const uint8_t> characters = bytes(static_cast<size_t>(length), what);
    return {characters.begin(), characters.end()};
  }

  bool flag(const char* what) {
    const uint64_t place = reader_.offset();
    const std::span<const uint8_t> byte = bytes(1, what);
    if (byte.empty()) return false;
    if (byte[0] > 1)
      refuse(place, std::string(what) + " is " + std::to_string(byte[0]) + ", expected 0 or 1");
    return byte[0] == 1;
  }

  void refuse(uint64_t place, const std::string& problem) {
    if (status_.ok()) status_ = badInput(reader_.path(), place, problem);
  }

 private:
  bool has(size_t count, const char* what) {
    if (!status_.ok()) return false;
    status_ = reader_.fill(count);
    if (status_.ok() && reader_.available() < count) {
      refuse(reader_.offset() + reader_.available(),
             "the file ends in its header, in the " + std::string(what));
    }
    return status_.ok();
  }

  ByteReader& reader_;
  Status status_;
};

void readMagic(HeaderReader& header) {
  const std::span<const uint8_t> magic = header.bytes(4, "four bytes \"SEQ\" and version");
  if (magic.empty()) return;
  if (std::memcmp(magic.data(), "SEQ", 3) != 0) {
    header.refuse(0, "no sequence file: it begins with " + excerpt(magic) + ", expected \"SEQ\"");
  } else if (magic[3] != 6) {
    header.refuse(3, "a sequence file of version " + std::to_string(magic[3]) + ", expected version 6");
  }
}

void refuseCompression(HeaderReader& header, uint64_t place, bool isCompressed, bool isBlockCompressed) {
  if (!header.status().ok() || !(isCompressed || isBlockCompressed)) return;
  const std::string codec = isCompressed ? header.text("codec's name") : "";
  const std::string kind = isBlockCompressed ? "blocks of records are" : "each record is";
  if (!header.status().ok()) return;
  const std::span<const uint8_t> name(reinterpret_cast<const uint8_t*>(codec.data()), codec.size());
  header.refuse(place, "a compressed sequence file (" + kind + " compressed, codec " + excerpt(name) +
                           "), expected one without compression");
}

}  // namespace

Result<SequenceHeader> readSequenceHeader(ByteReader& reader) {
  HeaderReader header(reader);
  SequenceHeader found;
  readMagic(header);
  found.keyClass = header.text("key class");
  found.valueClass = header.text("value class");
  const uint64_t flagsPlace = reader.offset();
  const bool isCompressed = header.flag("compression flag");
  const bool isBlockCompressed = header.flag("block compression flag");
  refuseCompression(header, flagsPlace, isCompressed, isBlockCompressed);
  const uint64_t countPlace = reader.offset();
  const std::span<const uint8_t> count = header.bytes(4, "metadata count");
  const uint32_t entries = count.empty() ? 0 : readBigEndian32(std::as_bytes(count).data());
  if (entries > kMaxMetadata) {
    header.refuse(countPlace, "a metadata count of " + std::to_string(entries) + ", expected at most " +
                                  std::to_string(kMaxMetadata));
  }
  for (uint32_t entry = 0; entry < entries && header.status().ok(); ++entry) {
    std::string name = header.text("metadata");
    std::string value = header.text("metadata");
    found.metadata.emplace_back(std::move(name), std::move(value));
  }
  const std::span<const uint8_t> marker = header.bytes(found.marker.size(), "sync marker");
  if (!header.status().ok()) return header.status();
  std::memcpy(found.marker.data(), marker.data(), marker.size());
  found.bytes = reader.offset();
  return found;
}

}  // namespace onnx_serving
