#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../rows/hadoop_vint.h"
#include "../rows/sequence_source.h"
#include "../rows/sequence_statistics.h"
#include "../rows/sequence_writer.h"
#include "check.h"
#include "row_files.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr std::string_view kMarker = "0123456789abcdef";
constexpr std::string_view kClass = "org.apache.hadoop.io.BytesWritable";

std::string bigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string text(std::string_view characters) {
  return static_cast<char>(characters.size()) + std::string(characters);
}

std::string header() {
  return "SEQ\x06" + text(kClass) + text(kClass) + std::string(6, '\0') + std::string(kMarker);
}

std::string escape() { return "\xFF\xFF\xFF\xFF" + std::string(kMarker); }

std::string record(uint64_t key, std::string_view value) {
  return bigEndian(static_cast<uint32_t>(8 + value.size())) + bigEndian(8) + bytesOf({key}) +
         std::string(value);
}

std::string innerRecord(uint64_t key, std::string_view value) {
  return bigEndian(static_cast<uint32_t>(16 + value.size())) + bigEndian(12) + bigEndian(8) + bytesOf({key}) +
         bigEndian(static_cast<uint32_t>(value.size())) + std::string(value);
}

RowFormat sequence(InnerLengths innerLengths = InnerLengths::kAuto) {
  RowFormat format;
  format.innerLengths = innerLengths;
  return format;
}

std::string contentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void writeFile(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

void testVInts() {
  const std::pair<std::vector<uint8_t>, int64_t> known[] = {
      {{0x00}, 0},
      {{0x7F}, 127},
      {{0x90}, -112},
      {{0xFF}, -1},
      {{0x8F, 0x80}, 128},
      {{0x8F, 0xFF}, 255},
      {{0x8E, 0x01, 0x00}, 256},
      {{0x87, 0x70}, -113},
      {{0x8C, 0x7F, 0xFF, 0xFF, 0xFF}, INT32_MAX},
      {{0x88, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, INT64_MAX},
      {{0x80, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, INT64_MIN},
  };
  for (const auto& [bytes, value] : known) {
    CHECK(hadoopVIntBytes(bytes[0]) == bytes.size());
    CHECK(readHadoopVInt(bytes) == value);
  }
}

void testRecords() {
  const std::string plain = header() + record(0, "") + record(UINT64_MAX, "abc") + escape() + escape() +
                            record(1, std::string(5000, 'v')) + escape();
  RowsRead read = readRows(plain, sequence());
  CHECK(read.error.empty() && read.rows.size() == 3);
  CHECK(read.rows[0] == std::pair(uint64_t{0}, std::string()));
  CHECK(read.rows[1] == std::pair(UINT64_MAX, std::string("abc")));
  CHECK(read.rows[2].second == std::string(5000, 'v'));

  const std::string inner = header() + escape() + innerRecord(7, "abc") + innerRecord(8, "");
  for (const InnerLengths choice : {InnerLengths::kAuto, InnerLengths::kYes}) {
    read = readRows(inner, sequence(choice));
    CHECK(read.error.empty() && read.rows.size() == 2 && read.rows[0].second == "abc");
  }
  read = readRows(inner, sequence(InnerLengths::kNo));
  CHECK(read.rows.empty() &&
        read.error ==
            "rows.bin, byte 120: a key of 12 bytes, expected 8 bytes (a file that Hadoop wrote "
            "has inner lengths)");
  read = readRows(plain, sequence(InnerLengths::kYes));
  CHECK(read.rows.empty() &&
        read.error.find("byte 96: a record of 8 bytes, expected at least 16 bytes") != std::string::npos);
  // The second record is of the other kind: the first has decided.
  read = readRows(header() + innerRecord(7, "abc") + record(8, "abcdefgh"), sequence());
  CHECK(read.rows.size() == 1 && read.error.find("a key of 8 bytes, expected 12") != std::string::npos);

  CHECK(readRows(header(), sequence()).error.empty());
  read =
      readRows(header() + record(1, "a") + bigEndian(64 << 20 | 1) + bigEndian(8) + "12345678", sequence());
  CHECK(read.rows.size() == 1 &&
        read.error.find("a record of 67108865 bytes, expected at most 67108864") != std::string::npos);
  read = readRows(header() + record(1, "a") + "\xFF\xFF\xFF\xFF" + "0123456789abcdeX", sequence());
  CHECK(read.rows.size() == 1 && read.error.find("byte 113: FF FF FF FF is not") != std::string::npos);
}

void testHeaders() {
  const auto fails = [](const std::string& file, std::string_view words) {
    const RowsRead read = readRows(file, sequence());
    CHECK(read.rows.empty() && read.error.find(words) != std::string::npos);
  };
  const std::string rest = std::string(kMarker) + record(5, "five");
  // Metadata, other classes, and names of any encoding of their length.
  const std::string metadata =
      bigEndian(2) + text("a") + text("b") + text("") + std::string("\x8F\x80", 2) + std::string(128, 'm');
  for (const std::string& file :
       {"SEQ\x06" + text("some.Key") + text("") + std::string(2, '\0') + metadata + rest,
        "SEQ\x06" + std::string("\x8F\xC8", 2) + std::string(200, 'k') + text(kClass) + std::string(6, '\0') +
            rest}) {
    const RowsRead read = readRows(file, sequence());
    CHECK(read.error.empty() && read.rows.size() == 1 && read.rows[0].second == "five");
    checkDamage(file, sequence(), [](std::string_view cut) { return cut.ends_with(kMarker); });
  }
  fails("", "the file ends in its header");
  fails("NOT A SEQUENCE FILE", "byte 0: no sequence file: it begins with \"NOT \"");
  fails("SEQ\x05" + header().substr(4), "byte 3: a sequence file of version 5, expected version 6");
  const std::string classes = "SEQ\x06" + text(kClass) + text(kClass);
  fails(classes + std::string("\x01\x00", 2) + text("org.Codec") + bigEndian(0) + rest,
        "byte 74: a compressed sequence file (each record is compressed, codec \"org.Codec\")");
  fails(classes + "\x01\x01" + text("org.Codec") + bigEndian(0) + rest, "blocks of records are compressed");
  fails(classes + std::string("\x00\x02", 2) + rest, "block compression flag is 2, expected 0 or 1");
  fails(classes + std::string(2, '\0') + bigEndian(1025) + rest, "a metadata count of 1025");
  fails("SEQ\x06\xFFrest", "key class has a length of -1");
  fails("SEQ\x06\x8D\xFF\xFF\xFFrest", "key class has a length of 16777215");
  fails("SEQ\x06" + text("org.apache.hadoop.io.LongWritable") + text(kClass) + std::string(6, '\0') + rest,
        "which are big-endian");
}

void testRangesAndDamage() {
  std::mt19937 random(1);
  for (const bool isInner : {false, true}) {
    std::string file = header();
    for (uint64_t key = 0; key < 60; ++key) {
      const std::string value(random() % 30, static_cast<char>(random() % 3 == 0 ? 0xFF : 'x'));
      file += isInner ? innerRecord(key, value) : record(key, value);
      if (random() % 4 == 0) file += escape();
    }
    checkRanges(file, sequence());
  }
  const std::string file = header() + record(1, "one") + record(2, "") + escape() + record(3, "three");
  static size_t clean[] = {96, 96 + 19, 96 + 19 + 16, 96 + 19 + 16 + 20};
  checkDamage(file, sequence(), [](std::string_view cut) {
    return std::find(std::begin(clean), std::end(clean), cut.size()) != std::end(clean);
  });
}

void testWriter() {
  TemporaryFile place(0);
  SyncMarker marker;
  std::memcpy(marker.data(), kMarker.data(), marker.size());
  std::string expected = header();
  {
    auto writer = SequenceWriter::open(place.path(), marker);
    CHECK(writer.ok());
    size_t sum = 0;
    RowBatch batch;
    for (uint64_t key = 0; key < 400; ++key) {
      // Record lengths of 8 to 407 bytes; 1984 + 16 and the like meet the limit exactly.
      const std::string value(key < 200 ? key * 2 : 12, 'v');
      batch.append(key, std::as_bytes(std::span(value)));
      expected += record(key, value);
      sum += 8 + value.size();
      if (sum >= 2000) {
        expected += escape();
        sum = 0;
      }
    }
    CHECK(writer.value()->write(batch).ok());
    CHECK(writer.value()->records() == 400 && writer.value()->bytes() == expected.size());
    CHECK(contentOf(place.path()).empty());
    CHECK(writer.value()->finish().ok());
  }
  CHECK(contentOf(place.path()) == expected);
  checkRanges(expected, sequence());

  auto statistics = measureSequenceFile(place.path(), InnerLengths::kAuto);
  CHECK(statistics.ok());
  CHECK(statistics.value().records == 400 && statistics.value().fileBytes == expected.size());
  CHECK(statistics.value().smallestKey == 0 && statistics.value().largestKey == 399);
  CHECK(statistics.value().shortestValue == 0 && statistics.value().longestValue == 398);
  CHECK(statistics.value().damage.ok() && statistics.value().escapes > 20);

  // A writer that is given up leaves the old file and nothing else.
  {
    auto writer = SequenceWriter::open(place.path());
    CHECK(writer.ok() && writer.value()->write(1, {}).ok());
  }
  CHECK(contentOf(place.path()) == expected);
  CHECK(!SequenceWriter::open("/dev/null").ok());
  CHECK(!SequenceWriter::open("/no/such/directory/file").ok());
  {
    auto writer = SequenceWriter::open(place.path());
    const std::vector<std::byte> large(kMaxRecordBytes - 7);
    CHECK(writer.ok() && writer.value()->write(1, large).code() == std::string_view(code::kBadInputFile));
    CHECK(writer.value()->write(1, std::span(large).subspan(1)).ok() && writer.value()->finish().ok());
  }
  InputRange range{place.path()};
  auto source = openRowSource(range, sequence());
  RowBatch batch;
  CHECK(source.ok() && source.value()->read(batch, 10).value() == 1 &&
        batch.bytes.size() == kMaxRecordBytes - 8);
}

void testFileRanges() {
  TemporaryFile place(0);
  std::string file = header();
  std::mt19937 random(3);
  for (uint64_t key = 0; file.size() < 5'000'000; ++key) {
    file += record(key, std::string(random() % 200 + (random() % 1000 == 0 ? 300'000 : 0), 'y'));
    if (random() % 20 == 0) file += escape();
  }
  writeFile(place.path(), file);
  const RowsRead whole = readRows(file, sequence());
  for (const uint64_t target : {uint64_t{1} << 40, uint64_t{3'000'000}, uint64_t{100'001}}) {
    auto ranges = splitInput(place.path(), target);
    CHECK(ranges.ok() && ranges.value().size() == (file.size() - 1) / target + 1);
    RowBatch all;
    for (const InputRange& range : ranges.value()) {
      auto source = openRowSource(range, sequence());
      CHECK(source.ok());
      while (true) {
        Result<size_t> rows = source.value()->read(all, 1000);
        CHECK(rows.ok());
        if (rows.value() == 0) break;
      }
    }
    CHECK(all.rows() == whole.rows.size());
    for (size_t row = 0; row < all.rows(); ++row) {
      CHECK(all.keys[row] == whole.rows[row].first);
      CHECK(all.value(row).size() == whole.rows[row].second.size());
    }
  }
  CHECK(splitInput("/no/such/file", 1).status().code() == std::string_view(code::kIo));
}

}  // namespace

void testSequenceFile() {
  testVInts();
  testRecords();
  testHeaders();
  testRangesAndDamage();
  testWriter();
  testFileRanges();
}
