#include <vector>

#include "file_content.h"
#include "mapped_file.h"
#include "mapped_file_guard.h"
#include "napi_support.h"
#include "xxh64.h"

namespace onnx_serving {
namespace {

/** Largest ArrayBuffer that V8 makes over memory of ours. */
constexpr size_t kMaxBufferBytes = (size_t{1} << 32) - 1;

/** A path cannot hold NUL; cut there it would name another file. */
std::string pathArgument(Arguments& arguments) {
  std::string path = arguments.string(0, "path");
  if (path.find('\0') != std::string::npos) arguments.refuse("path holds a NUL character");
  return path;
}

napi_value mapFile(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "mapFile");
  const std::string path = pathArgument(arguments);
  const size_t advice = arguments.size(1, "advice");
  MapOptions options;
  options.prefault = arguments.boolean(2, "prefault");
  options.hugePages = arguments.boolean(3, "hugePages");
  // A write from JavaScript to a read-only mapping would be a SIGSEGV.
  options.copyOnWrite = true;
  if (advice > static_cast<size_t>(Advice::kWillNeed)) arguments.refuse("advice is unknown");
  if (!arguments.ok()) return arguments.raise();
  options.advice = static_cast<Advice>(advice);

  Result<std::shared_ptr<MappedFile>> opened = MappedFile::open(path, options);
  if (!opened.ok()) return raise(env, opened.status());
  const std::span<std::byte> bytes = opened.value()->bytes();
  napi_value buffer = nullptr;
  if (bytes.empty()) {
    napi_create_arraybuffer(env, 0, nullptr, &buffer);
    return buffer;
  }
  if (bytes.size() > kMaxBufferBytes) {
    return raise(env, Status(code::kIo, "cannot map " + path + ": it has " + std::to_string(bytes.size()) +
                                            " bytes, expected at most " + std::to_string(kMaxBufferBytes)));
  }
  auto owner = std::make_unique<std::shared_ptr<MappedFile>>(std::move(opened.value()));
  const napi_status status = napi_create_external_arraybuffer(
      env, bytes.data(), bytes.size(),
      [](napi_env, void*, void* hint) {
        std::unique_ptr<std::shared_ptr<MappedFile>>(static_cast<std::shared_ptr<MappedFile>*>(hint));
      },
      owner.get(), &buffer);
  if (status != napi_ok) {
    bool isPending = false;
    napi_is_exception_pending(env, &isPending);
    return isPending ? nullptr
                     : raise(env, Status(code::kInternal, "mapFile: no external buffers in this runtime"));
  }
  (void)owner.release();
  return buffer;
}

napi_value hexString(napi_env env, uint64_t hash) {
  napi_value value = nullptr;
  const std::string digits = hexDigits(hash);
  napi_create_string_latin1(env, digits.data(), digits.size(), &value);
  return value;
}

class HashFileTask : public AsyncTask {
 public:
  explicit HashFileTask(std::string path) : path_(std::move(path)) {}
  Status execute() override {
    Result<uint64_t> hash = hashFile(path_);
    if (!hash.ok()) return hash.status();
    hash_ = hash.value();
    return {};
  }
  napi_value result(napi_env env) override { return hexString(env, hash_); }

 private:
  std::string path_;
  uint64_t hash_ = 0;
};

class PrefaultFileTask : public AsyncTask {
 public:
  explicit PrefaultFileTask(std::string path) : path_(std::move(path)) {}
  Status execute() override {
    Result<uint64_t> bytes = prefaultFile(path_);
    if (!bytes.ok()) return bytes.status();
    bytes_ = bytes.value();
    return {};
  }
  napi_value result(napi_env env) override {
    napi_value value = nullptr;
    napi_create_double(env, static_cast<double>(bytes_), &value);
    return value;
  }

 private:
  std::string path_;
  uint64_t bytes_ = 0;
};

template <class Task>
napi_value startOnPath(napi_env env, napi_callback_info info, const char* function) {
  Arguments arguments(env, info, function);
  std::string path = pathArgument(arguments);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<Task>(std::move(path)));
}

napi_value hashFileAsync(napi_env env, napi_callback_info info) {
  return startOnPath<HashFileTask>(env, info, "hashFile");
}

napi_value prefaultFileAsync(napi_env env, napi_callback_info info) {
  return startOnPath<PrefaultFileTask>(env, info, "prefaultFile");
}

napi_value hashBytes(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "hashBytes");
  const std::span<const uint8_t> bytes = arguments.bytes(0, "bytes");
  if (!arguments.ok()) return arguments.raise();
  Xxh64 hash;
  hash.update(std::as_bytes(bytes));
  return hexString(env, hash.digest());
}

napi_value installMappedFileGuard(napi_env env, napi_callback_info) {
  const Status status = MappedFileGuard::install();
  return status.ok() ? nullptr : raise(env, status);
}

napi_value mappedFileFaults(napi_env env, napi_callback_info) {
  napi_value value = nullptr;
  napi_create_double(env, static_cast<double>(MappedFileGuard::faults()), &value);
  return value;
}

napi_value faultedInodes(napi_env env, napi_callback_info) {
  const std::vector<uint64_t> inodes = MappedFileGuard::faultedInodes();
  napi_value array = nullptr;
  napi_create_array_with_length(env, inodes.size(), &array);
  for (size_t i = 0; i < inodes.size(); ++i) {
    napi_value inode = nullptr;
    napi_create_bigint_uint64(env, inodes[i], &inode);
    napi_set_element(env, array, static_cast<uint32_t>(i), inode);
  }
  return array;
}

}  // namespace

void exportMappedFile(napi_env env, napi_value exports) {
  exportFunction(env, exports, "mapFile", mapFile);
  exportFunction(env, exports, "hashFile", hashFileAsync);
  exportFunction(env, exports, "prefaultFile", prefaultFileAsync);
  exportFunction(env, exports, "hashBytes", hashBytes);
  exportFunction(env, exports, "installMappedFileGuard", installMappedFileGuard);
  exportFunction(env, exports, "mappedFileFaults", mappedFileFaults);
  exportFunction(env, exports, "faultedInodes", faultedInodes);
}

}  // namespace onnx_serving
