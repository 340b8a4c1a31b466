#include <atomic>
#include <cstring>
#include <vector>

#include "../low_priority.h"
#include "../mapped_file_guard.h"
#include "../napi_support.h"
#include "table_handle.h"
#include "table_scan.h"
#include "table_version.h"

namespace onnx_serving {
namespace {

using SharedTable = std::shared_ptr<const TableVersion>;

constexpr napi_type_tag kTableTag = {0x6f7365727654626cu, 0x9d3f1a5b27c4e681u};

void dropTable(napi_env, void* data, void*) {
  const std::unique_ptr<SharedTable> table(static_cast<SharedTable*>(data));
}

/** What JavaScript holds, or null where the value is no table. */
SharedTable* handleOf(napi_env env, napi_value value) {
  bool isTable = false;
  void* data = nullptr;
  if (napi_check_object_type_tag(env, value, &kTableTag, &isTable) != napi_ok || !isTable) return nullptr;
  return napi_get_value_external(env, value, &data) == napi_ok ? static_cast<SharedTable*>(data) : nullptr;
}

/** The strings of a JavaScript array. */
std::vector<std::string> pathsOf(Arguments& arguments, napi_value array) {
  std::vector<std::string> paths;
  uint32_t count = 0;
  if (!arguments.ok()) return paths;
  if (napi_get_array_length(arguments.env(), array, &count) != napi_ok)
    arguments.refuse("paths is not an array");
  for (uint32_t i = 0; i < count && arguments.ok(); ++i) {
    napi_value item;
    size_t length = 0;
    if (napi_get_element(arguments.env(), array, i, &item) != napi_ok ||
        napi_get_value_string_utf8(arguments.env(), item, nullptr, 0, &length) != napi_ok) {
      arguments.refuse("a path is not a string");
      break;
    }
    std::string path(length + 1, '\0');
    napi_get_value_string_utf8(arguments.env(), item, path.data(), path.size(), &length);
    path.resize(length);
    if (path.find('\0') != std::string::npos) arguments.refuse("a path holds a NUL character");
    paths.push_back(std::move(path));
  }
  return paths;
}

class OpenTask : public AsyncTask {
 public:
  OpenTask(TableFiles files, Residence residence) : files_(std::move(files)), residence_(residence) {}

  Status execute() override {
    if (Status guarded = MappedFileGuard::install(); !guarded.ok()) return guarded;
    Result<SharedTable> opened = TableVersion::openShared(files_, residence_);
    if (!opened.ok()) return opened.status();
    table_ = std::move(opened.value());
    return {};
  }

  napi_value result(napi_env env) override {
    auto owner = std::make_unique<SharedTable>(std::move(table_));
    napi_value handle = nullptr;
    if (napi_create_external(env, owner.get(), dropTable, nullptr, &handle) != napi_ok) return nullptr;
    (void)owner.release();
    return napi_type_tag_object(env, handle, &kTableTag) == napi_ok ? handle : nullptr;
  }

 private:
  TableFiles files_;
  Residence residence_;
  SharedTable table_;
};

/** openTable(snapshot: string[], deltas: string[][], inMemory): Promise<handle> */
napi_value openTable(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "openTable");
  TableFiles files;
  files.snapshot = pathsOf(arguments, arguments.at(0));
  uint32_t deltas = 0;
  if (arguments.ok() && napi_get_array_length(env, arguments.at(1), &deltas) != napi_ok)
    arguments.refuse("deltas is not an array");
  for (uint32_t i = 0; i < deltas && arguments.ok(); ++i) {
    napi_value delta;
    napi_get_element(env, arguments.at(1), i, &delta);
    files.deltas.push_back(pathsOf(arguments, delta));
  }
  const bool isInMemory = arguments.boolean(2, "inMemory");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<OpenTask>(std::move(files),
                                                   isInMemory ? Residence::kInMemory : Residence::kMapped));
}

napi_value closeTable(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "closeTable");
  if (SharedTable* table = handleOf(env, arguments.at(0)); table != nullptr) table->reset();
  return nullptr;
}

void setNumber(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  if (napi_create_double(env, number, &value) == napi_ok) napi_set_named_property(env, object, name, value);
}

/** tableFacts(handle): { rowType, dim, shards, overlayBytes } */
napi_value tableFacts(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableFacts");
  const SharedTable table = tableOf(arguments, 0);
  if (!arguments.ok()) return arguments.raise();
  napi_value object;
  napi_create_object(env, &object);
  setNumber(env, object, "rowType", static_cast<double>(table->rowType()));
  setNumber(env, object, "dim", table->dim());
  setNumber(env, object, "shards", table->shards());
  setNumber(env, object, "overlayBytes", static_cast<double>(table->overlayBytes()));
  return object;
}

/** tableShards(handle): { digest, hashSeed, rows, deletes } of every file, snapshot first. */
napi_value tableShards(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableShards");
  const SharedTable table = tableOf(arguments, 0);
  if (!arguments.ok()) return arguments.raise();
  napi_value shards;
  napi_create_array(env, &shards);
  uint32_t at = 0;
  const auto setInteger = [env](napi_value object, const char* name, uint64_t integer) {
    napi_value value;
    napi_create_bigint_uint64(env, integer, &value);
    napi_set_named_property(env, object, name, value);
  };
  const auto add = [&](const std::shared_ptr<ShardFile>& shard) {
    napi_value object;
    napi_create_object(env, &object);
    setInteger(object, "digest", shard->digest());
    setInteger(object, "hashSeed", shard->header().hashSeed);
    setNumber(env, object, "rows", static_cast<double>(shard->header().rows));
    setNumber(env, object, "deletes", static_cast<double>(shard->header().deletes));
    napi_set_element(env, shards, at++, object);
  };
  for (const auto& shard : table->snapshot()) add(shard);
  for (const auto& delta : table->deltas())
    for (const auto& shard : delta) add(shard);
  return shards;
}

/** A typed array of 64-bit integers, signed or not. */
std::span<const uint64_t> wideIntegers(Arguments& arguments, size_t index, const char* name) {
  const TypedArray array = arguments.typedArray(index, name);
  if (arguments.ok() && array.type != napi_biguint64_array && array.type != napi_bigint64_array)
    arguments.refuse(std::string(name) + " is not an array of 64-bit integers");
  if (!arguments.ok()) return {};
  return {static_cast<const uint64_t*>(array.data), array.length};
}

bool isGiven(const Arguments& arguments, size_t index) {
  napi_valuetype type = napi_undefined;
  napi_typeof(arguments.env(), arguments.at(index), &type);
  return type != napi_undefined && type != napi_null;
}

std::span<float> floats(Arguments& arguments, size_t index, const char* name) {
  const TypedArray array = arguments.typedArray(index, name);
  if (arguments.ok() && array.type != napi_float32_array)
    arguments.refuse(std::string(name) + " is not a Float32Array");
  if (!arguments.ok()) return {};
  return {static_cast<float*>(array.data), array.length};
}

/** tableGather(handle, keys, out, combiner, bagEnds?, weights?, defaultRow?, missing?): missing keys */
napi_value tableGather(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableGather");
  SharedTable* const handle = handleOf(env, arguments.at(0));
  if (handle == nullptr || *handle == nullptr) arguments.refuse("the table is closed");
  GatherRequest request;
  request.keys = wideIntegers(arguments, 1, "keys");
  request.out = floats(arguments, 2, "out");
  const size_t combiner = arguments.size(3, "combiner");
  if (combiner > static_cast<size_t>(Combiner::kSqrtN)) arguments.refuse("combiner is unknown");
  request.combiner = static_cast<Combiner>(combiner);
  if (isGiven(arguments, 4)) request.bagEnds = wideIntegers(arguments, 4, "bagEnds");
  if (isGiven(arguments, 5)) request.weights = floats(arguments, 5, "weights");
  if (isGiven(arguments, 6)) request.defaultRow = floats(arguments, 6, "defaultRow");
  if (isGiven(arguments, 7)) {
    const std::span<const uint8_t> bits = arguments.bytes(7, "missing");
    request.missing = {const_cast<uint8_t*>(bits.data()), bits.size()};
  }
  if (!arguments.ok()) return arguments.raise();
  Result<size_t> missing = (*handle)->gather(request);
  if (!missing.ok()) return raise(env, missing.status());
  napi_value count = nullptr;
  napi_create_double(env, static_cast<double>(missing.value()), &count);
  return count;
}

/** tableRow(handle, key: bigint): the stored bytes of a row in a new Uint8Array, or null */
napi_value tableRow(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableRow");
  const SharedTable table = tableOf(arguments, 0);
  uint64_t key = 0;
  bool isExact = false;
  if (arguments.ok() &&
      (napi_get_value_bigint_uint64(env, arguments.at(1), &key, &isExact) != napi_ok || !isExact)) {
    arguments.refuse("key is not a bigint of 64 bits");
  }
  if (!arguments.ok()) return arguments.raise();
  auto row = table->find(key);
  if (!row.ok()) return raise(env, row.status());
  napi_value value = nullptr;
  if (!row.value().has_value()) {
    napi_get_null(env, &value);
    return value;
  }
  const std::span<const std::byte> bytes = *row.value();
  void* copy = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, bytes.size(), &copy, &buffer) != napi_ok) return nullptr;
  if (!bytes.empty()) std::memcpy(copy, bytes.data(), bytes.size());
  napi_create_typedarray(env, napi_uint8_array, bytes.size(), buffer, 0, &value);
  return value;
}

class CountTask : public AsyncTask {
 public:
  explicit CountTask(SharedTable table) : table_(std::move(table)) {}
  Status execute() override {
    Result<uint64_t> rows = table_->rows();
    if (!rows.ok()) return rows.status();
    rows_ = rows.value();
    return {};
  }
  napi_value result(napi_env env) override {
    napi_value value = nullptr;
    napi_create_double(env, static_cast<double>(rows_), &value);
    return value;
  }

 private:
  SharedTable table_;
  uint64_t rows_ = 0;
};

/** tableRows(handle): Promise<number> */
napi_value tableRows(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableRows");
  SharedTable table = tableOf(arguments, 0);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<CountTask>(std::move(table)));
}

class VerifyTask : public AsyncTask {
 public:
  explicit VerifyTask(std::string path) : path_(std::move(path)) {}
  Status execute() override {
    if (Status guarded = MappedFileGuard::install(); !guarded.ok()) return guarded;
    Result<std::shared_ptr<ShardFile>> shard = ShardFile::open(path_, Residence::kMapped);
    if (!shard.ok()) return shard.status();
    bytes_ = shard.value()->header().fileBytes;
    digest_ = shard.value()->digest();
    return shard.value()->verify([](uint64_t) { return true; });
  }
  napi_value result(napi_env env) override {
    napi_value object, digest;
    napi_create_object(env, &object);
    setNumber(env, object, "bytes", static_cast<double>(bytes_));
    napi_create_bigint_uint64(env, digest_, &digest);
    napi_set_named_property(env, object, "digest", digest);
    return object;
  }

 private:
  std::string path_;
  uint64_t bytes_ = 0;
  uint64_t digest_ = 0;
};

/** verifyShard(path): Promise<{ bytes, digest }> */
napi_value verifyShard(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "verifyShard");
  std::string path = arguments.string(0, "path");
  if (path.find('\0') != std::string::npos) arguments.refuse("path holds a NUL character");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<VerifyTask>(std::move(path)));
}

/** Checks a file of an open table, mapped or in memory: what is served, not what lies at its path by now. */
class VerifyOpenTask : public AsyncTask {
 public:
  VerifyOpenTask(SharedTable table, std::shared_ptr<ShardFile> shard, bool isBackground, int32_t* stop)
      : table_(std::move(table)), shard_(std::move(shard)), isBackground_(isBackground), stop_(stop) {}
  Status execute() override {
    const auto verify = [this] {
      return shard_->verify([this](uint64_t) { return std::atomic_ref<int32_t>(*stop_).load() == 0; });
    };
    return isBackground_ ? atLowPriority(verify) : verify();
  }
  napi_value result(napi_env env) override {
    napi_value bytes = nullptr;
    napi_create_double(env, static_cast<double>(shard_->header().fileBytes), &bytes);
    return bytes;
  }

 private:
  SharedTable table_;
  std::shared_ptr<ShardFile> shard_;
  bool isBackground_;
  int32_t* stop_;
};

/** verifyTableFile(handle, file, isBackground, stop: Int32Array of 1): Promise<bytes>; `stop` not 0 ends it
 * early. */
napi_value verifyTableFile(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "verifyTableFile");
  SharedTable table = tableOf(arguments, 0);
  const size_t file = arguments.size(1, "file");
  const bool isBackground = arguments.boolean(2, "isBackground");
  const TypedArray stop = arguments.typedArray(3, "stop");
  if (arguments.ok() && (stop.type != napi_int32_array || stop.length != 1))
    arguments.refuse("stop is not an Int32Array of one element");
  std::shared_ptr<ShardFile> shard;
  if (arguments.ok()) {
    const size_t shards = table->shards();
    if (file < shards) {
      shard = table->snapshot()[file];
    } else if (file / shards <= table->deltas().size()) {
      shard = table->deltas()[file / shards - 1][file % shards];
    } else {
      arguments.refuse("there is no such file");
    }
  }
  if (!arguments.ok()) return rejected(env, arguments.problem());
  const napi_value kept[] = {arguments.at(3)};
  return startTask(env,
                   std::make_unique<VerifyOpenTask>(std::move(table), std::move(shard), isBackground,
                                                    static_cast<int32_t*>(stop.data)),
                   kept);
}

class CompareTask : public AsyncTask {
 public:
  CompareTask(SharedTable from, SharedTable to) : from_(std::move(from)), to_(std::move(to)) {}
  Status execute() override {
    Result<TableDifference> difference = compareTables(from_, to_);
    if (!difference.ok()) return difference.status();
    difference_ = difference.value();
    return {};
  }
  napi_value result(napi_env env) override {
    napi_value object;
    napi_create_object(env, &object);
    setNumber(env, object, "added", static_cast<double>(difference_.added));
    setNumber(env, object, "removed", static_cast<double>(difference_.removed));
    setNumber(env, object, "changed", static_cast<double>(difference_.changed));
    return object;
  }

 private:
  SharedTable from_;
  SharedTable to_;
  TableDifference difference_;
};

/** compareTables(from, to): Promise<{ added, removed, changed }> */
napi_value compareTablesOf(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "compareTables");
  SharedTable from = tableOf(arguments, 0);
  SharedTable to = tableOf(arguments, 1);
  if (arguments.ok() && (from->rowType() != to->rowType() || from->dim() != to->dim()))
    arguments.refuse("the tables have rows of different kinds");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<CompareTask>(std::move(from), std::move(to)));
}

/** gatherInstructions(): the instruction set of the gather loops */
napi_value gatherInstructions(napi_env env, napi_callback_info) {
  napi_value name = nullptr;
  napi_create_string_utf8(env, bestGatherKernels().name, NAPI_AUTO_LENGTH, &name);
  return name;
}

}  // namespace

std::shared_ptr<const TableVersion> tableOf(Arguments& arguments, size_t index) {
  if (!arguments.ok()) return nullptr;
  const SharedTable* handle = handleOf(arguments.env(), arguments.at(index));
  if (handle == nullptr || *handle == nullptr) {
    arguments.refuse("the table is closed");
    return nullptr;
  }
  return *handle;
}

void exportTable(napi_env env, napi_value exports) {
  exportFunction(env, exports, "openTable", openTable);
  exportFunction(env, exports, "closeTable", closeTable);
  exportFunction(env, exports, "tableFacts", tableFacts);
  exportFunction(env, exports, "tableShards", tableShards);
  exportFunction(env, exports, "tableGather", tableGather);
  exportFunction(env, exports, "tableRow", tableRow);
  exportFunction(env, exports, "tableRows", tableRows);
  exportFunction(env, exports, "verifyShard", verifyShard);
  exportFunction(env, exports, "verifyTableFile", verifyTableFile);
  exportFunction(env, exports, "compareTables", compareTablesOf);
  exportFunction(env, exports, "gatherInstructions", gatherInstructions);
}

}  // namespace onnx_serving
