// Writes what the sparse benchmarks are made of.
//
//   make_rows seq FILE BEGIN END DIM ADD         rows [BEGIN, END) as a sequence file
//   make_rows keys FILE ROWS uniform|zipf COUNT  keys to ask for, 8 bytes each
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "../../native/rows/sequence_writer.h"
#include "bench_rows.h"

using namespace onnx_serving;
using namespace onnx_serving::bench;

namespace {

void writeSequenceFile(const std::string& path, uint64_t begin, uint64_t end, uint32_t dim, float add) {
  auto writer = SequenceWriter::open(path);
  if (!writer.ok()) fail(writer.status().message());
  std::vector<float> row(dim);
  for (uint64_t i = begin; i < end; ++i) {
    fillRow(i, add, row);
    if (Status written = writer.value()->write(keyOf(i), std::as_bytes(std::span(row))); !written.ok())
      fail(written.message());
  }
  if (Status finished = writer.value()->finish(); !finished.ok()) fail(finished.message());
}

void writeKeys(const std::string& path, uint64_t rows, bool isZipf, size_t count) {
  const std::vector<uint64_t> keys = keysOf(queriedRows(rows, isZipf, count));
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(keys.data()), static_cast<std::streamsize>(keys.size() * 8));
  file.close();
  if (!file) fail(path + " cannot be written");
}

uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }

}  // namespace

int main(int count, char** arguments) {
  if (count == 7 && std::strcmp(arguments[1], "seq") == 0) {
    writeSequenceFile(arguments[2], number(arguments[3]), number(arguments[4]),
                      static_cast<uint32_t>(number(arguments[5])), std::strtof(arguments[6], nullptr));
    return 0;
  }
  if (count == 6 && std::strcmp(arguments[1], "keys") == 0) {
    writeKeys(arguments[2], number(arguments[3]), std::strcmp(arguments[4], "zipf") == 0,
              number(arguments[5]));
    return 0;
  }
  fail("usage: make_rows seq FILE BEGIN END DIM ADD | make_rows keys FILE ROWS uniform|zipf COUNT");
}
