#include <cmath>
#include <fstream>
#include <string>

#include "check.h"
#include "row_files.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

std::string npy(std::string_view dictionary, std::string_view elements, int version = 1) {
  std::string text(dictionary);
  const size_t prefix = version == 1 ? 10 : 12;
  while ((prefix + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  file += static_cast<char>(text.size() & 0xFF);
  file += static_cast<char>(text.size() >> 8);
  if (version > 1) file += std::string(2, '\0');
  return file + text + std::string(elements);
}

std::string array(std::string_view descr, std::string_view shape, std::string_view elements,
                  int version = 1) {
  return npy("{'descr': '" + std::string(descr) +
                 "', 'fortran_order': False, 'shape': " + std::string(shape) + ", }",
             elements, version);
}

RowFormat numpy(uint64_t firstKey = 0) {
  RowFormat format;
  format.format = InputFormat::kNpy;
  format.firstKey = firstKey;
  return format;
}

void fails(const std::string& file, const RowFormat& format, std::string_view words, size_t rows = 0) {
  const RowsRead read = readRows(file, format);
  if (read.error.find(words) == std::string::npos) std::fprintf(stderr, "%s\n", read.error.c_str());
  CHECK(read.rows.size() == rows);
  CHECK(read.error.find(words) != std::string::npos);
}

template <class T>
void readsAs(std::string_view descr, std::initializer_list<T> elements, std::initializer_list<float> floats) {
  for (int version = 1; version <= 3; ++version) {
    const RowsRead read = readRows(array(descr, "(2, 2)", bytesOf(elements), version), numpy(7));
    CHECK(read.error.empty() && read.rows.size() == 2);
    CHECK(read.rows[0].first == 7 && read.rows[1].first == 8);
    CHECK(read.rows[0].second + read.rows[1].second == bytesOf(floats));
  }
}

void testTypes() {
  readsAs<float>("<f4", {1, -2.5F, NAN, INFINITY}, {1, -2.5F, NAN, INFINITY});
  readsAs<double>("<f8", {1, 0.1, 1e300, -1e-300}, {1, 0.1F, INFINITY, -0.F});
  readsAs<uint16_t>("<f2", {0x3C00, 0xC000, 0x0001, 0xFC00}, {1, -2, 0x1p-24F, -INFINITY});
  readsAs<uint16_t>("<f2", {0x8000, 0x03FF, 0x0400, 0x7BFF}, {-0.F, 1023 * 0x1p-24F, 0x1p-14F, 65504});
  readsAs<int8_t>("|i1", {1, -128, 127, 0}, {1, -128, 127, 0});
  readsAs<int8_t>("<i1", {1, -128, 127, 0}, {1, -128, 127, 0});
  readsAs<uint8_t>("|u1", {1, 128, 255, 0}, {1, 128, 255, 0});
  readsAs<int16_t>("<i2", {1, -32768, 32767, 0}, {1, -32768, 32767, 0});
  readsAs<uint16_t>("<u2", {1, 65535, 0, 2}, {1, 65535, 0, 2});
  readsAs<int32_t>("<i4", {1, INT32_MIN, INT32_MAX, 0}, {1, -0x1p31F, 0x1p31F, 0});
  readsAs<uint32_t>("<u4", {1, UINT32_MAX, 0, 2}, {1, 0x1p32F, 0, 2});
  readsAs<int64_t>("<i8", {1, INT64_MIN, INT64_MAX, 0}, {1, -0x1p63F, 0x1p63F, 0});
  readsAs<uint64_t>("<u8", {1, UINT64_MAX, 0, 2}, {1, 0x1p64F, 0, 2});

  RowFormat raw = numpy();
  raw.rawBytes = true;
  RowsRead read = readRows(array("|u1", "(2, 3)", "abcdef"), raw);
  CHECK(read.error.empty() && read.rows[0].second == "abc" && read.rows[1].second == "def");
}

void testHeaders() {
  const std::string ones = bytesOf({1.F, 1.F, 1.F, 1.F});
  CHECK(readRows(npy("{\"shape\":(2,2),\"fortran_order\":False,\"descr\":\"<f4\"}", ones), numpy())
            .rows.size() == 2);
  CHECK(readRows(array("<f4", "(0, 4)", ""), numpy()).error.empty());
  fails("", numpy(), "byte 0: no NumPy array");
  fails("1:2\n3:4\n5:6\n7:8", numpy(), "byte 0: no NumPy array");
  fails(array(">f4", "(2, 2)", ones), numpy(),
        "big-endian elements \">f4\", expected little-endian ones: convert");
  fails(array("<c8", "(2, 1)", ones), numpy(), "elements of type \"<c8\", expected");
  fails(array("|f4", "(2, 2)", ones), numpy(), "elements of type \"|f4\"");
  fails(array("<f4", "(4,)", ones), numpy(), "an array of shape (4), expected 2 dimensions");
  fails(array("<f4", "()", ones), numpy(), "an array of shape (), expected 2");
  fails(array("<f4", "(2, 2, 1)", ones), numpy(), "an array of shape (2, 2, 1), expected 2");
  fails(array("<f4", "(2, 0)", ""), numpy(), "rows of 0 elements, expected 1 to 16777216");
  fails(array("<f4", "(2, 16777217)", ""), numpy(), "rows of 16777217 elements");
  fails(array("<f4", "(18446744073709551615, 2)", ones), numpy(), "expected one that fits a file");
  fails(array("<f4", "(1, 2)", ones), numpy(), "the file goes on behind its last row");
  fails(array("<f4", "(3, 2)", ones), numpy(), "byte 144: the file ends within row 2 of 3: expected 8 bytes",
        2);
  fails(array("<f4", "(2, -2)", ones), numpy(), "the header is not what NumPy writes");
  fails(array("<f4", "(1,1,1,1,1,1,1,1,1)", ones), numpy(), "at most 8 dimensions");
  fails(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", ones), numpy(), "Fortran order");
  fails(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 2)}", ones), numpy(),
        "arrays of records are not read");
  fails(npy("{'descr': '<f4', 'fortran_order': False}", ones), numpy(),
        "the keys descr, fortran_order and shape");
  fails(npy("{'descr': '<f4', 'descr': '<f4'}", ones), numpy(), "once");
  fails(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)} x", ones), numpy(), "nothing behind");
  fails(npy("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 2)}", ones), numpy(), "True or False");
  std::string other = array("<f4", "(2, 2)", ones);
  other[6] = 4;
  fails(other, numpy(), "a .npy file of version 4.0");
  other[6] = 2;
  fails(other, numpy(), "expected at most 65536");
  fails(array("<f4", "(2, 2)", ones), numpy(UINT64_MAX), "their keys pass 18446744073709551615");
  CHECK(readRows(array("<f4", "(2, 2)", ones), numpy(UINT64_MAX - 1)).rows[1].first == UINT64_MAX);
}

void testKeys() {
  TemporaryFile place(0);
  const std::string file = array("<f4", "(3, 1)", bytesOf({1.F, 2.F, 3.F}));
  RowFormat format = numpy();
  format.keysPath = place.path();
  const auto withKeys = [&](const std::string& keys) {
    std::ofstream(place.path(), std::ios::binary) << keys;
    return readRows(file, format);
  };
  RowsRead read = withKeys(array("<u8", "(3,)", bytesOf<uint64_t>({UINT64_MAX, 0, 5})));
  CHECK(read.error.empty() && read.rows[0].first == UINT64_MAX && read.rows[2].first == 5);
  CHECK(read.rows[2].second == bytesOf({3.F}));
  checkRanges(file, format);
  CHECK(withKeys(array("<i4", "(3,)", bytesOf<int32_t>({1, 2, 3}))).rows.size() == 3);
  CHECK(withKeys(array("<i8", "(3,)", bytesOf<int64_t>({1, 2, 3}))).rows.size() == 3);
  read = withKeys(array("<i8", "(3,)", bytesOf<int64_t>({1, -2, 3})));
  CHECK(read.rows.size() == 1 && read.error.find("byte 136: key 1 is negative") != std::string::npos);
  read = withKeys(array("<i8", "(3,)", bytesOf<int64_t>({1, 2})));
  CHECK(read.rows.size() == 2 && read.error.find("the file ends within row 2 of 3") != std::string::npos);
  CHECK(withKeys(array("<i8", "(2,)", bytesOf<int64_t>({1, 2}))).error.find("2 keys, expected 3") !=
        std::string::npos);
  CHECK(withKeys(array("<f8", "(3,)", bytesOf<double>({1, 2, 3}))).error.find("expected integers") !=
        std::string::npos);
}

/** An array that ends early at the end of a row is noticed by the last of its ranges, and by that one alone.
 */
void testCutRanges() {
  const std::string file = array("<f4", "(5, 1)", bytesOf({1.F, 2.F, 3.F}));
  CHECK(readRows(file, numpy(), 0, file.size() - 4).error.empty());
  const RowsRead last = readRows(file, numpy(), file.size() - 4, file.size());
  CHECK(last.rows.size() == 1 && last.error.find("the file ends within row 3 of 5") != std::string::npos);
}

}  // namespace

void testNpyRows() {
  testCutRanges();
  testTypes();
  testHeaders();
  testKeys();
  std::string elements;
  for (int i = 0; i < 300; ++i) elements += static_cast<char>(i);
  checkRanges(array("<u2", "(50, 3)", elements), numpy());
  checkRanges(array("|u1", "(300, 1)", elements), numpy(3));
  checkDamage(array("<f4", "(2, 2)", bytesOf({1.F, 2.F, 3.F, 4.F})), numpy(),
              [](std::string_view) { return false; });
}
