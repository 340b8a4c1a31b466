#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "byte_reader.h"
#include "row_source.h"
#include "sequence_header.h"

namespace onnx_serving {

/**
 * Rows of a sequence file: 8-byte little-endian keys with values of any length, as table builders write them,
 * or the same as Hadoop's BytesWritable puts it, each with a 4-byte big-endian length before it.
 */
class SequenceSource : public RowSource {
 public:
  /** As openRowSource. Any class names are taken but LongWritable keys, whose bytes are the other way round.
   */
  static Result<std::unique_ptr<SequenceSource>> open(ByteReader reader, uint64_t begin, uint64_t end,
                                                      InnerLengths innerLengths);

  const SequenceHeader& header() const { return header_; }
  /** Whether keys and values have inner lengths, as asked for or as the first record says. */
  bool hasInnerLengths() const { return hasInnerLengths_; }
  /** Sync escapes read so far. */
  uint64_t escapes() const { return escapes_; }
  /** Place in the file of the first record that is not read yet. */
  uint64_t offset() const { return reader_.offset(); }

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override;

 private:
  SequenceSource(ByteReader reader, SequenceHeader header, uint64_t end)
      : reader_(std::move(reader)), header_(std::move(header)), end_(end) {}

  Result<bool> looksInner();
  bool isMarker(const std::byte* at) const;
  Status seekEscape(uint64_t begin);
  Status appendRecord(uint32_t length, RowBatch& out);
  Status takeEscape();
  Status problem(uint64_t place, const std::string& what) const;
  Status cutOff(size_t expected) const;

  ByteReader reader_;
  SequenceHeader header_;
  uint64_t end_;
  uint64_t escapes_ = 0;
  bool hasInnerLengths_ = false;
  bool isDone_ = false;
};

}  // namespace onnx_serving
