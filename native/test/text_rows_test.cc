#include <bit>
#include <cmath>
#include <fstream>
#include <random>
#include <string>

#include "../rows/float_text.h"
#include "../rows/row_text.h"
#include "check.h"
#include "row_files.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

RowFormat keyValue(ValueText values = ValueText::kFloats) {
  RowFormat format;
  format.format = InputFormat::kKeyValue;
  format.values = values;
  return format;
}

RowFormat csv(std::string keyColumn = "", char delimiter = ',', HeaderLine header = HeaderLine::kAuto) {
  RowFormat format;
  format.format = InputFormat::kCsv;
  format.keyColumn = std::move(keyColumn);
  format.delimiter = delimiter;
  format.header = header;
  return format;
}

void fails(std::string_view file, const RowFormat& format, std::string_view words, size_t rows = 0) {
  const RowsRead read = readRows(file, format);
  if (read.rows.size() != rows || read.error.find(words) == std::string::npos) {
    std::fprintf(stderr, "%zu rows, %s\n", read.rows.size(), read.error.c_str());
  }
  CHECK(read.rows.size() == rows);
  CHECK(read.error.find(words) != std::string::npos);
}

void reads(std::string_view file, const RowFormat& format,
           const std::vector<std::pair<uint64_t, std::string>>& rows) {
  const RowsRead read = readRows(file, format);
  if (!read.error.empty()) std::fprintf(stderr, "%s\n", read.error.c_str());
  CHECK(read.error.empty());
  CHECK(read.rows == rows);
}

void testFloatText() {
  const std::pair<std::string_view, float> known[] = {{"1", 1},           {"+1.5", 1.5F},
                                                      {".5", 0.5F},       {"-.5e1", -5},
                                                      {"5.", 5},          {"007", 7},
                                                      {"-00.10", -.1F},   {"1.e2", 100},
                                                      {"inf", INFINITY},  {"-Infinity", -INFINITY},
                                                      {"+INF", INFINITY}, {"0", 0},
                                                      {"00", 0},          {"1e-50", 0},
                                                      {"000.0e5", 0},     {"3.4028235e38", 3.4028235e38F}};
  for (const auto& [text, value] : known) {
    const auto* at = reinterpret_cast<const uint8_t*>(text.data());
    float read = 0;
    const uint8_t* const end = at + text.size();
    CHECK(parseFloatText(at, end, read) == DecimalOutcome::kOk && at == end && read == value);
  }
  float value = 0;
  for (const std::string_view text : {"nan", "NaN", "-nan", "+NAN"}) {
    const auto* at = reinterpret_cast<const uint8_t*>(text.data());
    const uint8_t* const end = at + text.size();
    CHECK(parseFloatText(at, end, value) == DecimalOutcome::kOk && at == end && std::isnan(value));
  }
  for (const std::string_view text : {"", ".", "-", "+", "e5", "1e", "1e+", "--1", "x", "na", "+-1", ".e1"}) {
    const auto* at = reinterpret_cast<const uint8_t*>(text.data());
    CHECK(parseFloatText(at, at + text.size(), value) == DecimalOutcome::kMalformed);
  }
  for (const std::string_view text : {"1e39", "+1e39", "-1e400", "00034028236e31"}) {
    const auto* at = reinterpret_cast<const uint8_t*>(text.data());
    CHECK(parseFloatText(at, at + text.size(), value) == DecimalOutcome::kOverflow);
  }
}

void testKeyValue() {
  reads("0:1 2.5\r\n\n\r\n18446744073709551615: -1e2 ,\t.5 \n00042:nan", keyValue(),
        {{0, bytesOf({1.F, 2.5F})}, {UINT64_MAX, bytesOf({-100.F, .5F})}, {42, bytesOf({NAN})}});
  reads("1:\n2: \n", keyValue(), {{1, ""}, {2, ""}});
  reads(
      "\xEF\xBB\xBF"
      "1:1\n",
      keyValue(), {{1, bytesOf({1.F})}});
  reads("", keyValue(), {});
  reads("\n\n", keyValue(), {});
  reads("1:a:b\n2:\n3: \xFF\x01 \n", keyValue(ValueText::kText), {{1, "a:b"}, {2, ""}, {3, " \xFF\x01 "}});
  reads("1:00ffA0\n2:", keyValue(ValueText::kHex), {{1, std::string("\x00\xFF\xA0", 3)}, {2, ""}});

  fails("1:1\n18446744073709551616:1\n", keyValue(),
        "rows.bin, line 2, byte 4: the key \"18446744073709551616:1\" is larger than 18446744073709551615",
        1);
  fails("1:1\n\nx:1\n", keyValue(), "line 3, byte 5: expected key:value with a decimal key, found \"x:1\"",
        1);
  fails("-1:1", keyValue(), "expected key:value");
  fails("+1:1", keyValue(), "expected key:value");
  fails(" 1:1", keyValue(), "expected key:value");
  fails(":1", keyValue(), "expected key:value");
  fails("1 :1", keyValue(), "byte 1: expected a colon behind the key, found \" :1\"");
  fails("1", keyValue(), "byte 1: expected a colon behind the key, found the end of the line");
  fails("1.5:1", keyValue(), "expected a colon");
  fails("1:1 x 3", keyValue(), "line 1, byte 4: expected a number, found \"x\"");
  fails("1:1 2x 3", keyValue(), "byte 4: expected a number, found \"2x\"");
  fails("1:1,,2", keyValue(), "byte 4: expected a number, found \"\"");
  fails("1:,2", keyValue(), "byte 2: expected a number");
  fails("1:2, ", keyValue(), "behind the last comma");
  fails("1:1e39", keyValue(), "byte 2: \"1e39\" is too large for a 32-bit float");
  fails("1:abc", keyValue(ValueText::kHex), "an even number of hexadecimal digits, found 3");
  fails("1:ab cd", keyValue(ValueText::kHex), "byte 4: expected hexadecimal digits, found \" cd\"");
  fails("1:0g", keyValue(ValueText::kHex), "byte 3: expected hexadecimal digits");
  // The line is numbered from the beginning of the file, whatever the range.
  const RowsRead read = readRows("1:1\n2:2\n\n3:x\n", keyValue(), 2, 100);
  CHECK(read.rows.size() == 1 && read.error.starts_with("rows.bin, line 4, byte 11: "));
}

void testKeyValueFiles() {
  std::mt19937 random(5);
  for (const std::string_view end : {"\n", "\r\n"}) {
    std::string file = random() % 2 == 0 ? "\xEF\xBB\xBF" : "";
    for (uint64_t key = 0; key < 40; ++key) {
      file += std::to_string(key) + ":" + std::to_string(random() % 1000) + std::string(end);
      if (random() % 5 == 0) file += end;
    }
    if (random() % 2 == 0) file.pop_back();
    checkRanges(file, keyValue());
  }
  checkRanges("\n\n\n1:1", keyValue());
  checkRanges("\xEF\xBB\xBF\n1:1\n2:2", keyValue());

  // A line larger than the blocks of the reader, and one over the limit.
  TemporaryFile place(0);
  std::string file = "1:" + std::string(3 << 20, 'x') + "\n2:y\n";
  std::ofstream(place.path()) << file;
  RowBatch batch;
  auto source = openRowSource(InputRange{place.path()}, keyValue(ValueText::kText));
  CHECK(source.ok() && source.value()->read(batch, 10).value() == 2 && batch.ends[0] == 3 << 20);
  std::ofstream(place.path()) << "1:y\n2:" << std::string(kMaxRecordBytes, 'x') << "\n";
  source = openRowSource(InputRange{place.path()}, keyValue(ValueText::kText));
  batch.clear();
  CHECK(source.ok() && source.value()->read(batch, 10).value() == 1);
  CHECK(source.value()->read(batch, 10).status().message().find(
            ", line 2, byte 4: a line of more than 67108864 bytes") != std::string::npos);
}

void testCsv() {
  const std::vector<std::pair<uint64_t, std::string>> rows = {{1, bytesOf({.5F, 2.F})},
                                                              {2, bytesOf({3.F, 4.F})}};
  reads("1,0.5,2\n2,3,4\n", csv(), rows);
  reads("id,a,b\n1,0.5,2\n2,3,4", csv(), rows);
  reads("\n\"id\",\"a\",b\r\n\"1\", 0.5 ,\"2\"\r\n2,3,4\r\n", csv(), rows);
  reads("1;0.5;2\n2;3;4", csv("", ';'), rows);
  reads("k\ta\tb\n1\t0.5\t2\n2\t 3\t4", csv("", '\t'), rows);
  reads("a,id,b\n0.5,1,2\n3,2,4", csv("id"), rows);
  reads("a,id,b\n0.5,1,2\n3,2,4", csv("2"), rows);
  reads("0.5,1,2\n3,2,4", csv("2"), rows);
  reads("9,0,1\n1,0.5,2\n2,3,4", csv("", ',', HeaderLine::kYes), rows);
  // What pandas writes: an unnamed key and numbers as names.
  reads(",0,1\n1,0.5,2\n2,3,4", csv(), rows);
  reads("b,\"i,\"\"d\",a\n.5,1,2\n3,2,4", csv("i,\"d"), rows);
  reads("18446744073709551615", csv(), {{UINT64_MAX, ""}});
  reads("", csv(), {});
  reads("id,a\n", csv(), {});

  fails("1,2,3\n2,3\n", csv(), "line 2, byte 6: 2 fields, expected 3 as in the first line", 1);
  fails("1,2,\n", csv(), "line 1, byte 4: column 3 is empty, expected a number");
  fails("1,2,x\n", csv(), "byte 4: column 3 is \"x\", expected a number");
  fails("1,1e39\n", csv(), "column 2 is \"1e39\", too large");
  fails("12x,1\n2,2\n", csv(), "line 1, byte 0: the key is \"12x\", expected a whole number");
  fails("-1,1\n", csv(), "the key is \"-1\"");
  fails("id,1\n18446744073709551616,1\n", csv(), "line 2, byte 5: the key is \"18446744073709551616\"");
  fails("id,1\n2,1\n", csv("", ',', HeaderLine::kNo), "the key is \"id\"");
  fails("1,\"2\n3\",4\n", csv(), "line 1, byte 2: a quoted field that is not closed");
  fails("1,\"2\"3\n", csv(), "byte 2: a quoted field");
  fails("a,b\n1,2\n", csv("c"), "no column \"c\" for the key, found \"a\", \"b\"");
  fails("a,b\n1,2\n", csv("3"), "no column 3 for the key: expected 1 to 2");
  fails("a,b\n1,2\n", csv("0"), "no column 0");
  fails("1,2\n", csv("a", ',', HeaderLine::kNo), "there is no header line");

  std::mt19937 random(6);
  for (const bool hasHeader : {false, true}) {
    std::string file = hasHeader ? "\n\nid,a,b\n" : "";
    for (uint64_t key = 0; key < 40; ++key) {
      file += std::to_string(key) + "," + std::to_string(random() % 1000) + ",\"1\"\r\n";
    }
    checkRanges(file, csv());
  }
  checkDamage("id,a\n1,2\n33,4.5\n", csv(), [](std::string_view cut) {
    return cut.size() == 0 || cut == "i" || cut == "id" || cut.ends_with("d,") || cut.ends_with("a") ||
           cut.ends_with("\n") || cut.ends_with("2") || cut.ends_with("4") || cut.ends_with("4.") ||
           cut.ends_with("5");
  });
}

void testPrinting() {
  std::mt19937_64 random(8);
  for (const ValueText form : {ValueText::kFloats, ValueText::kText, ValueText::kHex}) {
    RowBatch batch;
    for (const uint64_t key : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63, uint64_t{9007199254740993}}) {
      for (const size_t floats : {0, 1, 16, 255, 256, 257, 600}) {
        std::vector<float> values(floats);
        for (float& value : values) {
          do {
            value = std::bit_cast<float>(static_cast<uint32_t>(random()));
          } while (std::isnan(value));
        }
        if (floats == 16) values = {0.F, -0.F, INFINITY, -INFINITY, 1e-45F, 3.4028235e38F, .1F, 16777216.F};
        std::string bytes = bytesOf(std::span<const float>(values));
        if (form == ValueText::kText) {
          for (char& c : bytes) c = c == '\n' || c == '\r' ? 'x' : c;
        }
        if (form != ValueText::kFloats) bytes += "odd";
        batch.append(key, std::as_bytes(std::span(bytes)));
      }
    }
    std::string text;
    CHECK(printRows(batch, form, 1, text).ok());
    const RowsRead back = readRows(text, keyValue(form), 0, UINT64_MAX, 7);
    CHECK(back.error.empty() && back.rows.size() == batch.rows());
    for (size_t row = 0; row < batch.rows(); ++row) {
      const std::span<const std::byte> value = batch.value(row);
      CHECK(back.rows[row].first == batch.keys[row]);
      CHECK(back.rows[row].second == std::string(reinterpret_cast<const char*>(value.data()), value.size()));
    }
  }
  RowBatch batch;
  const std::string bytes = bytesOf({1.F, NAN, .1F}) + "\n";
  batch.append(5, std::as_bytes(std::span(bytes)).first(12));
  std::string text;
  CHECK(printRows(batch, ValueText::kFloats, 1, text).ok() && text == "5:1 NaN 0.1\n");
  batch.append(6, std::as_bytes(std::span(bytes)));
  Status status = printRows(batch, ValueText::kFloats, 10, text = "");
  CHECK(status.message() ==
        "the value of row 11 with key 6 has 13 bytes, expected a multiple of 4 to print floats; print hex "
        "instead");
  CHECK(text == "5:1 NaN 0.1\n");
  CHECK(!printRows(batch, ValueText::kText, 10, text).ok());
}

void testGuesses() {
  TemporaryFile place(0);
  const auto guessed = [&](const std::string& content, const std::string& path) {
    std::ofstream(path, std::ios::binary) << content;
    auto format = guessFormat(path);
    CHECK(format.ok());
    return format.value();
  };
  CHECK(guessed("SEQ\x06"
                "xx",
                place.path())
            .format == InputFormat::kSequenceFile);
  CHECK(guessed("\x93NUMPY\x01", place.path()).format == InputFormat::kNpy);
  CHECK(guessed("SEQUENCE", place.path()).format == InputFormat::kKeyValue);
  CHECK(guessed("", place.path()).format == InputFormat::kKeyValue);
  const std::string csvPath = place.path() + ".csv";
  const std::string tsvPath = place.path() + ".tsv";
  CHECK(guessed("1,2", csvPath).format == InputFormat::kCsv);
  CHECK(guessed("1,2", tsvPath).delimiter == '\t');
  unlink(csvPath.c_str());
  unlink(tsvPath.c_str());
  CHECK(!guessFormat(csvPath).ok());
}

}  // namespace

void testTextRows() {
  testFloatText();
  testKeyValue();
  testKeyValueFiles();
  testCsv();
  testPrinting();
  testGuesses();
}
