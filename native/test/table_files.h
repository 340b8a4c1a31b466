#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../table/table_builder.h"
#include "../table/table_version.h"

/** A key with its row of floats. */
using FloatRows = std::map<uint64_t, std::vector<float>>;

/** Rows that lie in memory, as an input of a build. */
onnx_serving::RowInput inputOf(FloatRows rows);
/** Keys that are to be deleted. */
onnx_serving::RowInput deletesOf(std::vector<uint64_t> keys);

/** Builds the files of a version in a new directory below `directory`; returns their paths. */
std::vector<std::string> buildFiles(const std::string& directory, onnx_serving::TableBuildOptions options,
                                    std::vector<onnx_serving::RowInput> inputs);
