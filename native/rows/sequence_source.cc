#include "sequence_source.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "input_error.h"

namespace onnx_serving {
namespace {

constexpr size_t kKeyBytes = 8;
constexpr size_t kLengthBytes = 4;
/** Record length and key length. */
constexpr size_t kPrefixBytes = 8;
constexpr const char* kLongWritable = "org.apache.hadoop.io.LongWritable";

std::string bytesText(uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

Result<std::unique_ptr<SequenceSource>> SequenceSource::open(ByteReader reader, uint64_t begin, uint64_t end,
                                                             InnerLengths innerLengths) {
  Result<SequenceHeader> header = readSequenceHeader(reader);
  if (!header.ok()) return header.status();
  std::unique_ptr<SequenceSource> source(
      new SequenceSource(std::move(reader), std::move(header.value()), end));
  if (source->header_.keyClass == kLongWritable) {
    return source->problem(4, std::string("keys of class ") + kLongWritable +
                                  ", which are big-endian; expected 8 little-endian bytes, such as in " +
                                  kBytesWritable);
  }
  source->hasInnerLengths_ = innerLengths == InnerLengths::kYes;
  if (innerLengths == InnerLengths::kAuto) {
    Result<bool> looks = source->looksInner();
    if (!looks.ok()) return looks.status();
    source->hasInnerLengths_ = looks.value();
  }
  if (begin > 0) {
    if (Status status = source->seekEscape(begin); !status.ok()) return status;
  }
  return source;
}

/** Looks at the first record and leaves the reader before it. */
Result<bool> SequenceSource::looksInner() {
  size_t at = 0;
  for (;;) {
    if (Status status = reader_.fill(at + kSyncBytes); !status.ok()) return status;
    if (reader_.available() < at + kSyncBytes) break;
    const std::byte* const escape = reader_.unread().data() + at;
    // A wrong marker is reported by whoever reads the records.
    if (readBigEndian32(escape) != kSyncEscape || !isMarker(escape + kLengthBytes)) break;
    at += kSyncBytes;
    // An endless row of escapes has no first record.
    if (at > kMaxRecordBytes) return false;
  }
  const size_t wanted = at + kPrefixBytes + kLengthBytes + kKeyBytes + kLengthBytes;
  if (Status status = reader_.fill(wanted); !status.ok()) return status;
  if (reader_.available() < wanted) return false;
  const std::byte* const record = reader_.unread().data() + at;
  const std::byte* const key = record + kPrefixBytes;
  const uint64_t valueBytes = readBigEndian32(key + kLengthBytes + kKeyBytes);
  return readBigEndian32(record + 4) == kLengthBytes + kKeyBytes && readBigEndian32(key) == kKeyBytes &&
         readBigEndian32(record) == kLengthBytes + kKeyBytes + kLengthBytes + valueBytes;
}

bool SequenceSource::isMarker(const std::byte* at) const {
  return std::memcmp(at, header_.marker.data(), header_.marker.size()) == 0;
}

/** Goes to the first escape that starts at `begin` or later; the source is done when none does before its
 * end. */
Status SequenceSource::seekEscape(uint64_t begin) {
  reader_.seek(std::max(begin, header_.bytes));
  char pattern[kSyncBytes];
  std::memset(pattern, 0xFF, kLengthBytes);
  std::memcpy(pattern + kLengthBytes, header_.marker.data(), header_.marker.size());
  while (reader_.offset() < end_) {
    if (Status status = reader_.fill(kSyncBytes); !status.ok()) return status;
    if (reader_.available() < kSyncBytes) break;
    const std::string_view text(reinterpret_cast<const char*>(reader_.unread().data()), reader_.available());
    const size_t found = text.find(std::string_view(pattern, kSyncBytes));
    if (found != std::string_view::npos) {
      reader_.skip(found);
      isDone_ = reader_.offset() >= end_;
      return {};
    }
    reader_.skip(reader_.available() - (kSyncBytes - 1));
  }
  isDone_ = true;
  return {};
}

Status SequenceSource::append(RowBatch& out, const RowLimit& limit) {
  while (!isDone_ && !limit.isReached(out)) {
    if (Status status = reader_.fill(kPrefixBytes); !status.ok()) return status;
    const size_t available = reader_.available();
    if (available == 0) {
      isDone_ = true;
      break;
    }
    if (available < kLengthBytes) return cutOff(kPrefixBytes);
    const uint32_t length = readBigEndian32(reader_.unread().data());
    Status status = length == kSyncEscape ? takeEscape() : appendRecord(length, out);
    if (!status.ok()) return status;
  }
  return {};
}

Status SequenceSource::takeEscape() {
  if (Status status = reader_.fill(kSyncBytes); !status.ok()) return status;
  if (reader_.available() < kSyncBytes) return cutOff(kSyncBytes);
  if (!isMarker(reader_.unread().data() + kLengthBytes)) {
    return problem(
        reader_.offset(),
        "FF FF FF FF is not followed by the sync marker of the header: the file is damaged here or before");
  }
  isDone_ = reader_.offset() >= end_;
  if (isDone_) return {};
  reader_.skip(kSyncBytes);
  ++escapes_;
  return {};
}

Status SequenceSource::appendRecord(uint32_t length, RowBatch& out) {
  const uint64_t place = reader_.offset();
  const size_t lengths = hasInnerLengths_ ? kLengthBytes : 0;
  const size_t keyBytes = lengths + kKeyBytes;
  if (length > kMaxRecordBytes) {
    return problem(place,
                   "a record of " + bytesText(length) + ", expected at most " + bytesText(kMaxRecordBytes));
  }
  if (length < keyBytes + lengths) {
    return problem(
        place, "a record of " + bytesText(length) + ", expected at least " + bytesText(keyBytes + lengths));
  }
  if (Status status = reader_.fill(kPrefixBytes + length); !status.ok()) return status;
  const size_t available = reader_.available();
  if (available < kPrefixBytes) return cutOff(kPrefixBytes + length);
  const std::byte* at = reader_.unread().data() + kPrefixBytes;
  if (const uint32_t found = readBigEndian32(at - kLengthBytes); found != keyBytes) {
    const char* const hint = !hasInnerLengths_ && found == kKeyBytes + kLengthBytes
                                 ? " (a file that Hadoop wrote has inner lengths)"
                                 : "";
    return problem(place + kLengthBytes,
                   "a key of " + bytesText(found) + ", expected " + bytesText(keyBytes) + hint);
  }
  if (available < kPrefixBytes + length) return cutOff(kPrefixBytes + length);
  size_t valueBytes = length - keyBytes;
  if (hasInnerLengths_) {
    if (const uint32_t inner = readBigEndian32(at); inner != kKeyBytes) {
      return problem(place + kPrefixBytes,
                     "an inner key length of " + std::to_string(inner) + ", expected 8");
    }
    valueBytes -= kLengthBytes;
    if (const uint32_t inner = readBigEndian32(at + keyBytes); inner != valueBytes) {
      return problem(place + kPrefixBytes + keyBytes, "an inner value length of " + std::to_string(inner) +
                                                          ", expected " + std::to_string(valueBytes));
    }
  }
  uint64_t key;
  std::memcpy(&key, at + lengths, kKeyBytes);
  out.append(key, {at + keyBytes + lengths, valueBytes});
  reader_.skip(kPrefixBytes + length);
  return {};
}

Status SequenceSource::problem(uint64_t place, const std::string& what) const {
  return badInput(reader_.path(), place, what);
}

Status SequenceSource::cutOff(size_t expected) const {
  return problem(reader_.offset(), "the file ends within a record: expected " + bytesText(expected) +
                                       " from here, found " + bytesText(reader_.available()));
}

}  // namespace onnx_serving
