#include <cstring>
#include <optional>
#include <string>

#include "../napi_support.h"
#include "handle_binding.h"
#include "object_binding.h"
#include "row_format_binding.h"
#include "rows_binding.h"
#include "sequence_writer.h"

namespace onnx_serving {
namespace {

constexpr napi_type_tag kWriterTag = {0x6f6e6e7853657276, 0x5365715772697465};

/** An open writer. Its flags belong to the JavaScript thread; the rest to the task while one runs. */
struct OpenWriter {
  /** Null once the file has its name, or was given up. */
  std::unique_ptr<SequenceWriter> writer;
  RowBatch batch;
  bool isBusy = false;
  bool isClosed = false;
};

class WriterTask : public AsyncTask {
 public:
  explicit WriterTask(std::shared_ptr<OpenWriter> open) : open_(std::move(open)) { open_->isBusy = true; }
  ~WriterTask() override {
    open_->isBusy = false;
    if (open_->isClosed) open_->writer.reset();
  }

 protected:
  OpenWriter& open() { return *open_; }

 private:
  std::shared_ptr<OpenWriter> open_;
};

class OpenTask : public AsyncTask {
 public:
  OpenTask(std::string path, std::optional<SyncMarker> marker) : path_(std::move(path)), marker_(marker) {}
  Status execute() override {
    Result<std::unique_ptr<SequenceWriter>> writer = SequenceWriter::open(path_, marker_);
    if (!writer.ok()) return writer.status();
    open_->writer = std::move(writer.value());
    return {};
  }
  napi_value result(napi_env env) override { return makeHandle(env, kWriterTag, open_); }

 private:
  std::string path_;
  std::optional<SyncMarker> marker_;
  std::shared_ptr<OpenWriter> open_ = std::make_shared<OpenWriter>();
};

class WriteTask : public WriterTask {
 public:
  WriteTask(std::shared_ptr<OpenWriter> open, const RowArrays& rows)
      : WriterTask(std::move(open)), rows_(rows) {}
  Status execute() override {
    open().batch.clear();
    if (Status status = rows_.appendTo(open().batch); !status.ok()) return status;
    return open().writer->write(open().batch);
  }
  napi_value result(napi_env env) override {
    napi_value value = nullptr;
    napi_get_undefined(env, &value);
    return value;
  }

 private:
  RowArrays rows_;
};

class FinishTask : public WriterTask {
 public:
  explicit FinishTask(std::shared_ptr<OpenWriter> open) : WriterTask(std::move(open)) {}
  Status execute() override {
    records_ = open().writer->records();
    bytes_ = open().writer->bytes();
    return open().writer->finish();
  }
  napi_value result(napi_env env) override {
    ObjectBuilder object(env);
    object.setNumber("records", records_);
    object.setNumber("bytes", bytes_);
    return object.value();
  }

 private:
  uint64_t records_ = 0;
  uint64_t bytes_ = 0;
};

/** A writer that is open and at rest. */
std::shared_ptr<OpenWriter> writerArgument(Arguments& arguments) {
  std::shared_ptr<OpenWriter> open = handleArgument<OpenWriter>(arguments, 0, "writer", kWriterTag);
  if (open && open->isClosed) arguments.refuse("the writer is closed");
  if (open && open->isBusy) arguments.refuse("the writer is busy with an earlier call");
  return open;
}

napi_value openSequenceWriter(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "openSequenceWriter");
  std::string path = rowPathArgument(arguments, 0, "path");
  std::optional<SyncMarker> marker;
  napi_valuetype type = napi_undefined;
  napi_typeof(env, arguments.at(1), &type);
  if (type != napi_undefined) {
    const std::span<const uint8_t> bytes = arguments.bytes(1, "marker");
    if (arguments.ok() && bytes.size() != marker.emplace().size())
      arguments.refuse("marker has not 16 bytes");
    if (arguments.ok()) std::memcpy(marker->data(), bytes.data(), marker->size());
  }
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<OpenTask>(std::move(path), marker));
}

napi_value writeSequenceRows(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "writeSequenceRows");
  std::shared_ptr<OpenWriter> open = writerArgument(arguments);
  const RowArrays rows(arguments, 1);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  const napi_value kept[] = {arguments.at(1), arguments.at(2), arguments.at(3)};
  return startTask(env, std::make_unique<WriteTask>(std::move(open), rows), kept);
}

napi_value finishSequenceWriter(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "finishSequenceWriter");
  std::shared_ptr<OpenWriter> open = writerArgument(arguments);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  open->isClosed = true;
  return startTask(env, std::make_unique<FinishTask>(std::move(open)));
}

napi_value abandonSequenceWriter(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "abandonSequenceWriter");
  const std::shared_ptr<OpenWriter> open = handleArgument<OpenWriter>(arguments, 0, "writer", kWriterTag);
  if (!arguments.ok()) return arguments.raise();
  open->isClosed = true;
  if (!open->isBusy) open->writer.reset();
  return nullptr;
}

}  // namespace

void exportSequenceWriter(napi_env env, napi_value exports) {
  exportFunction(env, exports, "openSequenceWriter", openSequenceWriter);
  exportFunction(env, exports, "writeSequenceRows", writeSequenceRows);
  exportFunction(env, exports, "finishSequenceWriter", finishSequenceWriter);
  exportFunction(env, exports, "abandonSequenceWriter", abandonSequenceWriter);
}

}  // namespace onnx_serving
