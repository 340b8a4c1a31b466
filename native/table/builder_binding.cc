#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "../low_priority.h"
#include "../napi_support.h"
#include "../rows/handle_binding.h"
#include "../rows/object_binding.h"
#include "../rows/row_format_binding.h"
#include "../xxh64.h"
#include "file_inputs.h"
#include "table_builder.h"
#include "table_handle.h"
#include "table_scan.h"

namespace onnx_serving {
namespace {

constexpr napi_type_tag kBuildTag = {0x6f6e6e7853657276, 0x5461626c65426c64};
constexpr size_t kMaxThreads = 1024;

/** A build of JavaScript: what to do, and how far it is. */
struct TableBuildJob {
  TableBuildOptions options;
  FileInputs files;
  /** Rows of tables; they come before those of files. */
  std::vector<RowInput> scans;
  BuildProgress progress;
  bool isBackground = false;
  bool isStarted = false;
};

/** Reads the members of the options object; the first that is not as it should be is refused. */
class Members {
 public:
  Members(Arguments& arguments, size_t index) : arguments_(arguments), object_(arguments.at(index)) {
    napi_valuetype type = napi_undefined;
    if (napi_typeof(arguments.env(), object_, &type) != napi_ok || type != napi_object) {
      arguments.refuse("options is not an object");
    }
  }

  uint64_t number(const char* name, uint64_t least, uint64_t most) {
    double value = 0;
    const napi_value member = get(name);
    if (!arguments_.ok() || napi_get_value_double(arguments_.env(), member, &value) != napi_ok ||
        !(value >= static_cast<double>(least)) || !(value <= static_cast<double>(most)) ||
        value != static_cast<double>(static_cast<uint64_t>(value))) {
      refuse(name);
      return least;
    }
    return static_cast<uint64_t>(value);
  }
  bool boolean(const char* name) {
    bool value = false;
    const napi_value member = get(name);
    if (!arguments_.ok() || napi_get_value_bool(arguments_.env(), member, &value) != napi_ok) refuse(name);
    return value;
  }
  std::string path(const char* name) { return pathOf(get(name), name); }
  std::vector<std::string> paths(const char* name) {
    std::vector<std::string> paths;
    uint32_t count = 0;
    const napi_value member = get(name);
    if (!arguments_.ok() || napi_get_array_length(arguments_.env(), member, &count) != napi_ok) refuse(name);
    for (uint32_t i = 0; i < count && arguments_.ok(); ++i) {
      napi_value item = nullptr;
      if (napi_get_element(arguments_.env(), member, i, &item) != napi_ok) refuse(name);
      paths.push_back(pathOf(item, name));
    }
    return paths;
  }

 private:
  napi_value get(const char* name) {
    napi_value value = nullptr;
    if (arguments_.ok() && napi_get_named_property(arguments_.env(), object_, name, &value) != napi_ok) {
      refuse(name);
    }
    return value;
  }
  /** A path cannot hold NUL; cut there it would name another file. */
  std::string pathOf(napi_value value, const char* name) {
    size_t length = 0;
    if (!arguments_.ok() ||
        napi_get_value_string_utf8(arguments_.env(), value, nullptr, 0, &length) != napi_ok) {
      refuse(name);
      return {};
    }
    std::string text(length + 1, '\0');
    napi_get_value_string_utf8(arguments_.env(), value, text.data(), text.size(), &length);
    text.resize(length);
    if (text.find('\0') != std::string::npos) refuse(name);
    return text;
  }
  void refuse(const char* name) {
    arguments_.refuse(std::string("options.") + name + " is not what it should be");
  }

  Arguments& arguments_;
  napi_value object_;
};

class BuildTask : public AsyncTask {
 public:
  explicit BuildTask(std::shared_ptr<TableBuildJob> job) : job_(std::move(job)) {}

  Status execute() override {
    return job_->isBackground ? atLowPriority([this] { return build(); }) : build();
  }

  napi_value result(napi_env env) override {
    ObjectBuilder object(env);
    object.setNumber("dim", built_.dim);
    object.setBigInt("hashSeed", built_.hashSeed);
    object.setNumber("rows", built_.rows);
    object.setNumber("deletes", built_.deletes);
    object.setNumber("rowsRead", built_.rowsRead);
    object.setNumber("duplicates", built_.duplicates);
    object.setNumber("deletesRead", built_.deletesRead);
    object.setNumber("partitions", built_.partitions);
    object.setNumber("spilledBytes", built_.spilledBytes);
    object.setNumber("readingMs", static_cast<uint64_t>(built_.readingSeconds * 1000));
    object.setNumber("writingMs", static_cast<uint64_t>(built_.writingSeconds * 1000));
    object.set("shards", shards(env));
    object.set("mean", mean(env));
    return object.value();
  }

 private:
  Status build() {
    Result<std::vector<RowInput>> inputs = openFileInputs(job_->files, job_->options.threads);
    if (!inputs.ok()) return inputs.status();
    std::vector<RowInput> all = job_->scans;
    all.insert(all.end(), std::make_move_iterator(inputs.value().begin()),
               std::make_move_iterator(inputs.value().end()));
    Result<BuiltTable> built = buildTable(job_->options, all, job_->progress);
    if (!built.ok()) return built.status();
    built_ = std::move(built.value());
    return {};
  }

  napi_value shards(napi_env env) const {
    napi_value array = nullptr;
    napi_create_array_with_length(env, built_.shards.size(), &array);
    for (uint32_t i = 0; i < built_.shards.size(); ++i) {
      const BuiltShard& shard = built_.shards[i];
      ObjectBuilder object(env);
      object.setText("name", shard.name);
      object.setNumber("rows", shard.rows);
      object.setNumber("deletes", shard.deletes);
      object.setNumber("bytes", shard.bytes);
      object.setText("digest", hexDigits(shard.digest));
      napi_set_element(env, array, i, object.value());
    }
    return array;
  }
  napi_value mean(napi_env env) const {
    napi_value array = nullptr;
    napi_create_array_with_length(env, built_.mean.size(), &array);
    for (uint32_t i = 0; i < built_.mean.size(); ++i) {
      napi_value element = nullptr;
      napi_create_double(env, static_cast<double>(built_.mean[i]), &element);
      napi_set_element(env, array, i, element);
    }
    return array;
  }

  std::shared_ptr<TableBuildJob> job_;
  BuiltTable built_;
};

/** createTableBuild(options, format): handle */
napi_value createTableBuild(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "createTableBuild");
  const auto job = std::make_shared<TableBuildJob>();
  Members members(arguments, 0);
  TableBuildOptions& options = job->options;
  options.directory = members.path("directory");
  options.kind = static_cast<ShardKind>(members.number("kind", 0, 1));
  options.rowType = static_cast<RowType>(members.number("rowType", 0, 3));
  options.dim = static_cast<uint32_t>(members.number("dim", 0, ShardHeader::kMaxDim));
  options.shards = static_cast<uint32_t>(members.number("shards", 1, ShardHeader::kMaxShards));
  options.threads = static_cast<unsigned>(members.number("threads", 1, kMaxThreads));
  options.memoryLimit = members.number("memoryLimit", 1, uint64_t{1} << 50);
  options.wantsMean = members.boolean("wantsMean");
  options.allowsNoRows = members.boolean("allowsNoRows");
  job->isBackground = members.boolean("isBackground");
  job->files.paths = members.paths("paths");
  job->files.deletePaths = members.paths("deletePaths");
  job->files.guessesFormat = members.boolean("guessesFormat");
  job->files.form = members.boolean("isStored") ? ValueForm::kStored : ValueForm::kFloats;
  job->files.format = rowFormatArgument(arguments, 1);
  if (options.rowType == RowType::kBytes && (options.dim > 0 || options.wantsMean)) {
    arguments.refuse("rows of bytes have neither a dim nor a mean");
  }
  if (!arguments.ok()) return arguments.raise();
  return makeHandle(env, kBuildTag, job);
}

std::shared_ptr<TableBuildJob> jobArgument(Arguments& arguments) {
  return handleArgument<TableBuildJob>(arguments, 0, "build", kBuildTag);
}

/** addTableScan(build, table, what, other | null, areDeletes): rows of an open table as inputs, before it is
 * run */
napi_value addTableScan(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "addTableScan");
  const std::shared_ptr<TableBuildJob> job = jobArgument(arguments);
  const std::shared_ptr<const TableVersion> table = tableOf(arguments, 1);
  const size_t what = arguments.size(2, "what");
  const bool isPlain = what == static_cast<size_t>(ScanOf::kAll);
  const std::shared_ptr<const TableVersion> other = isPlain ? nullptr : tableOf(arguments, 3);
  const bool areDeletes = arguments.boolean(4, "areDeletes");
  if (what > static_cast<size_t>(ScanOf::kAbsent)) arguments.refuse("what is unknown");
  if (arguments.ok() && job->isStarted) arguments.refuse("the build was started before");
  if (arguments.ok() && other != nullptr &&
      (other->rowType() != table->rowType() || other->dim() != table->dim()))
    arguments.refuse("the tables have rows of different kinds");
  if (!arguments.ok()) return arguments.raise();
  for (RowInput& input : scanInputs(table, static_cast<ScanOf>(what), other, areDeletes))
    job->scans.push_back(std::move(input));
  return nullptr;
}

/** runTableBuild(build): Promise<BuiltTable>, once for each build */
napi_value runTableBuild(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "runTableBuild");
  const std::shared_ptr<TableBuildJob> job = jobArgument(arguments);
  if (arguments.ok() && job->isStarted) arguments.refuse("the build was started before");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  job->isStarted = true;
  return startTask(env, std::make_unique<BuildTask>(job));
}

/** tableBuildProgress(build) */
napi_value tableBuildProgress(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "tableBuildProgress");
  const std::shared_ptr<TableBuildJob> job = jobArgument(arguments);
  if (!arguments.ok()) return arguments.raise();
  const BuildProgress& progress = job->progress;
  ObjectBuilder object(env);
  object.setNumber("phase", static_cast<uint32_t>(progress.phase.load()));
  object.setNumber("rowsRead", progress.rowsRead);
  object.setNumber("bytesRead", progress.bytesRead);
  object.setNumber("bytesTotal", progress.bytesTotal);
  object.setNumber("partitionsDone", progress.partitionsDone);
  object.setNumber("partitionsTotal", progress.partitionsTotal);
  return object.value();
}

/** cancelTableBuild(build): the promise is rejected once the threads have ended. */
napi_value cancelTableBuild(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "cancelTableBuild");
  const std::shared_ptr<TableBuildJob> job = jobArgument(arguments);
  if (!arguments.ok()) return arguments.raise();
  job->progress.isCancelled = true;
  return nullptr;
}

}  // namespace

void exportTableBuilder(napi_env env, napi_value exports) {
  exportFunction(env, exports, "createTableBuild", createTableBuild);
  exportFunction(env, exports, "addTableScan", addTableScan);
  exportFunction(env, exports, "runTableBuild", runTableBuild);
  exportFunction(env, exports, "tableBuildProgress", tableBuildProgress);
  exportFunction(env, exports, "cancelTableBuild", cancelTableBuild);
}

}  // namespace onnx_serving
