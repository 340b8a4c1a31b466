// Our table in C++.
//
//   table_contestant mapped|memory KEYS ROWS DELTAS FILE... [+ FILE...]...
//
// KEYS is a file of keys, ROWS and DELTAS say what the table holds; FILEs are the shards of the snapshot and,
// behind each +, those of a delta. Commands: contestant.h.
#include <cstdlib>
#include <cstring>

#include "../../native/table/table_version.h"
#include "contestant.h"

using namespace onnx_serving;
using namespace onnx_serving::bench;

int main(int count, char** arguments) {
  if (count < 6) fail("usage: table_contestant mapped|memory KEYS ROWS DELTAS FILE... [+ FILE...]...");
  const Residence residence =
      std::strcmp(arguments[1], "memory") == 0 ? Residence::kInMemory : Residence::kMapped;
  const std::vector<uint64_t> keys = readKeys(arguments[2]);
  const uint64_t rows = std::strtoull(arguments[3], nullptr, 10);
  const int deltas = std::atoi(arguments[4]);
  TableFiles files;
  for (int i = 5; i < count; ++i) {
    if (std::strcmp(arguments[i], "+") == 0)
      files.deltas.emplace_back();
    else if (files.deltas.empty())
      files.snapshot.emplace_back(arguments[i]);
    else
      files.deltas.back().emplace_back(arguments[i]);
  }
  auto opened = TableVersion::open(files, residence);
  if (!opened.ok()) fail(opened.status().message());
  const TableVersion& table = *opened.value();
  const size_t dim = table.dim();
  // A stored byte is off by up to half of a step, which is 1/255 of the row's range.
  const float tolerance = table.rowType() == RowType::kInt8 ? static_cast<float>(dim) / 255 : 0;
  std::cout << "{\"ready\":true,\"kernels\":\"" << bestGatherKernels().name
            << "\",\"overlayBytes\":" << table.overlayBytes() << "}" << std::endl;
  serveGathers(keys, dim, tolerance, rows, deltas, [&](unsigned, size_t first, size_t batch, float* out) {
    GatherRequest request;
    request.keys = {&keys[first], batch};
    request.out = {out, batch * dim};
    const auto missing = table.gather(request);
    if (!missing.ok()) fail(missing.status().message());
  });
  return 0;
}
