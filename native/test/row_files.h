#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../rows/row_source.h"

/** Rows with their values as strings, and why the reading ended. */
struct RowsRead {
  std::vector<std::pair<uint64_t, std::string>> rows;
  /** Empty at a clean end. */
  std::string error;
};

/** All rows of a range of a file in memory, `perCall` at a time. */
RowsRead readRows(std::string_view file, const onnx_serving::RowFormat& format, uint64_t begin = 0,
                  uint64_t end = UINT64_MAX, size_t perCall = 3);

/** Ends the test unless any cuts of the file into ranges give the rows of the whole file. */
void checkRanges(std::string_view file, const onnx_serving::RowFormat& format);

/**
 * Reads the file cut off at every length and with every byte changed in several ways. Ends the test when a
 * cut file gives other rows than the first ones of the whole (the last row of a text aside), or neither an
 * error that names the file nor all of them.
 *
 * @param isCleanCut whether a file of this length is whole
 */
void checkDamage(std::string_view file, const onnx_serving::RowFormat& format,
                 bool (*isCleanCut)(std::string_view));

/** The bytes of some values as they lie in memory. */
template <class T>
std::string bytesOf(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}
template <class T>
std::string bytesOf(std::initializer_list<T> values) {
  return bytesOf(std::span<const T>(values.begin(), values.size()));
}
