// The same rows in LMDB, set up the way it is fastest: keys of 8 bytes as MDB_INTEGERKEY, pages filled by a
// sorted build with MDB_APPEND, one read transaction and one cursor a thread, no locks.
//
//   lmdb_contestant DIRECTORY KEYS ROWS DIM readahead|random get|cursor
//
// DIRECTORY receives the environment unless it holds one already. `random` opens with MDB_NORDAHEAD; `cursor`
// looks up with mdb_cursor_get, which stays on its page where it can, `get` with mdb_get. Commands:
// contestant.h.
#include <lmdb.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "contestant.h"

using namespace onnx_serving::bench;

namespace {

void require(int result, const char* what) {
  if (result != MDB_SUCCESS) fail(std::string(what) + ": " + mdb_strerror(result));
}

MDB_val valueOf(const void* data, size_t bytes) { return {bytes, const_cast<void*>(data)}; }

void build(const std::string& directory, uint64_t rows, size_t dim) {
  if (std::filesystem::exists(directory + "/data.mdb")) return;
  // Renamed when whole: what an interrupted bench leaves is not used.
  const std::string partial = directory + ".partial";
  std::filesystem::remove_all(partial);
  std::filesystem::create_directories(partial);
  std::vector<std::pair<uint64_t, uint64_t>> sorted(rows);
  for (uint64_t i = 0; i < rows; ++i) sorted[i] = {keyOf(i), i};
  std::sort(sorted.begin(), sorted.end());
  MDB_env* env = nullptr;
  require(mdb_env_create(&env), "mdb_env_create");
  require(mdb_env_set_mapsize(env, rows * (dim * 4 + 32) * 2 + (size_t{64} << 20)), "mdb_env_set_mapsize");
  require(mdb_env_open(env, partial.c_str(), MDB_NOSYNC | MDB_WRITEMAP, 0644), "mdb_env_open");
  MDB_dbi table = 0;
  std::vector<float> row(dim);
  MDB_txn* txn = nullptr;
  const auto startedAt = Clock::now();
  for (uint64_t at = 0; at < rows; ++at) {
    if (txn == nullptr) {
      require(mdb_txn_begin(env, nullptr, 0, &txn), "mdb_txn_begin");
      require(mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &table), "mdb_dbi_open");
    }
    fillRow(sorted[at].second, 0, row);
    MDB_val key = valueOf(&sorted[at].first, 8);
    MDB_val value = valueOf(row.data(), dim * 4);
    require(mdb_put(txn, table, &key, &value, MDB_APPEND), "mdb_put");
    if (at + 1 == rows || at % 1'000'000 == 999'999) {
      require(mdb_txn_commit(txn), "mdb_txn_commit");
      txn = nullptr;
    }
  }
  require(mdb_env_sync(env, 1), "mdb_env_sync");
  mdb_env_close(env);
  std::fprintf(stderr, "lmdb: built %llu rows in %.1f s (sorting not counted)\n",
               static_cast<unsigned long long>(rows), seconds(Clock::now() - startedAt));
  std::filesystem::rename(partial, directory);
}

struct Reader {
  MDB_txn* txn = nullptr;
  MDB_cursor* cursor = nullptr;
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) fail("usage: lmdb_contestant DIRECTORY KEYS ROWS DIM readahead|random get|cursor");
  const std::string directory = arguments[1];
  const uint64_t rows = std::strtoull(arguments[3], nullptr, 10);
  const size_t dim = std::strtoull(arguments[4], nullptr, 10);
  const bool isRandom = std::strcmp(arguments[5], "random") == 0;
  const bool hasCursor = std::strcmp(arguments[6], "cursor") == 0;
  build(directory, rows, dim);
  const std::vector<uint64_t> keys = readKeys(arguments[2]);
  MDB_env* env = nullptr;
  require(mdb_env_create(&env), "mdb_env_create");
  require(mdb_env_open(env, directory.c_str(),
                       MDB_RDONLY | MDB_NOTLS | MDB_NOLOCK | (isRandom ? MDB_NORDAHEAD : 0u), 0644),
          "mdb_env_open");
  MDB_dbi table = 0;
  const auto openReader = [&] {
    Reader reader;
    require(mdb_txn_begin(env, nullptr, MDB_RDONLY, &reader.txn), "mdb_txn_begin");
    require(mdb_dbi_open(reader.txn, nullptr, MDB_INTEGERKEY, &table), "mdb_dbi_open");
    require(mdb_cursor_open(reader.txn, table, &reader.cursor), "mdb_cursor_open");
    return reader;
  };
  const std::vector<Reader> readers{openReader(), openReader(), openReader(), openReader()};
  std::cout << "{\"ready\":true}" << std::endl;
  serveGathers(keys, dim, 0, rows, 0, [&](unsigned thread, size_t first, size_t batch, float* out) {
    const Reader& reader = readers.at(thread);
    for (size_t k = 0; k < batch; ++k) {
      MDB_val key = valueOf(&keys[first + k], 8);
      MDB_val value;
      const int found = hasCursor ? mdb_cursor_get(reader.cursor, &key, &value, MDB_SET)
                                  : mdb_get(reader.txn, table, &key, &value);
      require(found, "get");
      std::memcpy(out + k * dim, value.mv_data, dim * 4);
    }
  });
  return 0;
}
