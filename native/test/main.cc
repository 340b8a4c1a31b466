#include <cstdio>
#include <cstring>

#include "tests.h"

namespace {

struct Test {
  const char* name;
  void (*run)();
};

constexpr Test kTests[] = {
    {"bucket_placement", testBucketPlacement},
    {"byte_scan", testByteScan},
    {"crash_journal", testCrashJournal},
    {"decimal", testDecimal},
    {"files", testFiles},
    {"infer_body", testInferBody},
    {"slab", testSlab},
    {"mapped_file_guard", testMappedFileGuard},
    {"json_tensor", testJsonTensor},
    {"mutations", testMutations},
    {"npy_rows", testNpyRows},
    {"sequence_file", testSequenceFile},
    {"text_rows", testTextRows},
    {"row_encoder", testRowEncoder},
    {"table_build", testTableBuild},
    {"table_build_threads", testTableBuildThreads},
    {"overlay", testOverlay},
    {"id_hash", testIdHash},
    {"gather", testGather},
    {"table_race", testTableRace},
    {"xxh64", testXxh64},
};

}  // namespace

/** Runs all tests, or those named. */
int main(int count, char** names) {
  // A test that ends the process must not take the lines of the earlier ones with it.
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  int done = 0;
  for (const Test& test : kTests) {
    bool isWanted = count == 1;
    for (int i = 1; i < count; ++i) isWanted = isWanted || std::strcmp(names[i], test.name) == 0;
    if (!isWanted) continue;
    test.run();
    std::printf("ok %s\n", test.name);
    ++done;
  }
  return done > 0 ? 0 : 1;
}
