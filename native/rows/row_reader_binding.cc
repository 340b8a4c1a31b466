#include <optional>
#include <string>

#include "../napi_support.h"
#include "handle_binding.h"
#include "object_binding.h"
#include "row_format_binding.h"
#include "row_source.h"
#include "row_text.h"
#include "rows_binding.h"

namespace onnx_serving {
namespace {

constexpr napi_type_tag kReaderTag = {0x6f6e6e7853657276, 0x526f775265616465};

/** An open source. Its flags belong to the JavaScript thread; the rest to the task while one runs. */
struct RowReader {
  std::unique_ptr<RowSource> source;
  RowBatch batch;
  /** How lines are printed, once the first ones were looked at. */
  std::optional<ValueText> lineForm;
  uint64_t printedRows = 0;
  /** What is told after the lines before it. */
  Status lineFault;
  bool isBusy = false;
  bool isClosed = false;
};

/** Marks a reader busy while it lives, and drops the source of one that was closed meanwhile. */
class ReaderTask : public AsyncTask {
 public:
  explicit ReaderTask(std::shared_ptr<RowReader> reader) : reader_(std::move(reader)) {
    reader_->isBusy = true;
  }
  ~ReaderTask() override {
    reader_->isBusy = false;
    if (reader_->isClosed) reader_->source.reset();
  }

 protected:
  RowReader& reader() { return *reader_; }

 private:
  std::shared_ptr<RowReader> reader_;
};

napi_value nullValue(napi_env env) {
  napi_value value = nullptr;
  napi_get_null(env, &value);
  return value;
}

class OpenTask : public AsyncTask {
 public:
  OpenTask(InputRange range, RowFormat format) : range_(std::move(range)), format_(std::move(format)) {}
  Status execute() override {
    Result<std::unique_ptr<RowSource>> source = openRowSource(range_, format_);
    if (!source.ok()) return source.status();
    reader_->source = std::move(source.value());
    return {};
  }
  napi_value result(napi_env env) override { return makeHandle(env, kReaderTag, reader_); }

 private:
  InputRange range_;
  RowFormat format_;
  std::shared_ptr<RowReader> reader_ = std::make_shared<RowReader>();
};

class ReadTask : public ReaderTask {
 public:
  ReadTask(std::shared_ptr<RowReader> reader, size_t maxRows)
      : ReaderTask(std::move(reader)), maxRows_(maxRows) {}
  Status execute() override {
    reader().batch.clear();
    Result<size_t> rows = reader().source->read(reader().batch, maxRows_);
    return rows.ok() ? Status() : rows.status();
  }
  napi_value result(napi_env env) override {
    const RowBatch& batch = reader().batch;
    return batch.rows() == 0 ? nullValue(env) : rowsObject(env, batch);
  }

 private:
  size_t maxRows_;
};

class ReadLinesTask : public ReaderTask {
 public:
  ReadLinesTask(std::shared_ptr<RowReader> reader, size_t maxRows, std::optional<ValueText> form)
      : ReaderTask(std::move(reader)), maxRows_(maxRows), form_(form) {}
  Status execute() override {
    if (!reader().lineFault.ok()) return reader().lineFault;
    RowBatch& batch = reader().batch;
    batch.clear();
    Result<size_t> rows = reader().source->read(batch, maxRows_);
    if (!rows.ok()) return rows.status();
    if (!reader().lineForm) reader().lineForm = form_ ? *form_ : guessValueText(batch);
    reader().lineFault = printRows(batch, *reader().lineForm, reader().printedRows + 1, *text_);
    reader().printedRows += batch.rows();
    rows_ = batch.rows();
    return text_->empty() ? reader().lineFault : Status();
  }
  napi_value result(napi_env env) override {
    if (text_->empty()) return nullValue(env);
    ObjectBuilder object(env);
    object.setNumber("rows", rows_);
    object.set("text", arrayBufferOf(env, std::move(text_)));
    return object.value();
  }

 private:
  size_t maxRows_;
  std::optional<ValueText> form_;
  size_t rows_ = 0;
  std::unique_ptr<std::string> text_ = std::make_unique<std::string>();
};

/** A reader that is open and at rest. */
std::shared_ptr<RowReader> readerArgument(Arguments& arguments) {
  std::shared_ptr<RowReader> reader = handleArgument<RowReader>(arguments, 0, "reader", kReaderTag);
  if (reader && reader->isClosed) arguments.refuse("the reader is closed");
  if (reader && reader->isBusy) arguments.refuse("the reader is busy with an earlier call");
  return reader;
}

size_t maxRowsArgument(Arguments& arguments) {
  const size_t maxRows = arguments.size(1, "maxRows");
  if (arguments.ok() && maxRows == 0) arguments.refuse("maxRows is 0");
  return maxRows;
}

napi_value openRowReader(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "openRowReader");
  InputRange range{rowPathArgument(arguments, 0, "path")};
  RowFormat format = rowFormatArgument(arguments, 1);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<OpenTask>(std::move(range), std::move(format)));
}

napi_value readRows(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "readRows");
  std::shared_ptr<RowReader> reader = readerArgument(arguments);
  const size_t maxRows = maxRowsArgument(arguments);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<ReadTask>(std::move(reader), maxRows));
}

napi_value readRowLines(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "readRowLines");
  std::shared_ptr<RowReader> reader = readerArgument(arguments);
  const size_t maxRows = maxRowsArgument(arguments);
  // One more than the forms: look at the values.
  constexpr size_t kGuess = static_cast<size_t>(ValueText::kHex) + 1;
  const size_t choice = arguments.size(2, "values");
  if (choice > kGuess) arguments.refuse("values is unknown");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  std::optional<ValueText> form;
  if (choice < kGuess) form = static_cast<ValueText>(choice);
  return startTask(env, std::make_unique<ReadLinesTask>(std::move(reader), maxRows, form));
}

napi_value closeRowReader(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "closeRowReader");
  const std::shared_ptr<RowReader> reader = handleArgument<RowReader>(arguments, 0, "reader", kReaderTag);
  if (!arguments.ok()) return arguments.raise();
  reader->isClosed = true;
  if (!reader->isBusy) reader->source.reset();
  return nullptr;
}

}  // namespace

void exportRowReader(napi_env env, napi_value exports) {
  exportFunction(env, exports, "openRowReader", openRowReader);
  exportFunction(env, exports, "readRows", readRows);
  exportFunction(env, exports, "readRowLines", readRowLines);
  exportFunction(env, exports, "closeRowReader", closeRowReader);
}

}  // namespace onnx_serving
