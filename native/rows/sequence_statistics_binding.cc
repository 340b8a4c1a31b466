#include <string>

#include "../napi_support.h"
#include "object_binding.h"
#include "row_format_binding.h"
#include "rows_binding.h"
#include "sequence_statistics.h"

namespace onnx_serving {
namespace {

napi_value metadataArray(napi_env env, const SequenceHeader& header) {
  napi_value array = nullptr;
  napi_create_array(env, &array);
  for (uint32_t i = 0; i < header.metadata.size(); ++i) {
    ObjectBuilder entry(env);
    entry.setText("name", header.metadata[i].first);
    entry.setText("value", header.metadata[i].second);
    napi_set_element(env, array, i, entry.value());
  }
  return array;
}

class MeasureTask : public AsyncTask {
 public:
  MeasureTask(std::string path, InnerLengths innerLengths)
      : path_(std::move(path)), innerLengths_(innerLengths) {}

  Status execute() override {
    Result<SequenceStatistics> measured = measureSequenceFile(path_, innerLengths_);
    if (!measured.ok()) return measured.status();
    statistics_ = std::move(measured.value());
    return {};
  }

  napi_value result(napi_env env) override {
    const SequenceHeader& header = statistics_.header;
    ObjectBuilder object(env);
    object.setText("keyClass", header.keyClass);
    object.setText("valueClass", header.valueClass);
    object.set("metadata", metadataArray(env, header));
    object.setBoolean("hasInnerLengths", statistics_.hasInnerLengths);
    object.setNumber("fileBytes", statistics_.fileBytes);
    object.setNumber("records", statistics_.records);
    object.setNumber("escapes", statistics_.escapes);
    object.setNumber("valueBytes", statistics_.valueBytes);
    if (statistics_.records > 0) {
      object.setBigInt("smallestKey", statistics_.smallestKey);
      object.setBigInt("largestKey", statistics_.largestKey);
      object.setNumber("shortestValue", statistics_.shortestValue);
      object.setNumber("longestValue", statistics_.longestValue);
    }
    if (!statistics_.damage.ok()) object.set("damage", errorOf(env, statistics_.damage));
    return object.value();
  }

 private:
  std::string path_;
  InnerLengths innerLengths_;
  SequenceStatistics statistics_;
};

napi_value measureSequence(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "measureSequenceFile");
  std::string path = rowPathArgument(arguments, 0, "path");
  const auto innerLengths = choiceArgument(arguments, 1, "innerLengths", InnerLengths::kNo);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  return startTask(env, std::make_unique<MeasureTask>(std::move(path), innerLengths));
}

}  // namespace

void exportSequenceStatistics(napi_env env, napi_value exports) {
  exportFunction(env, exports, "measureSequenceFile", measureSequence);
}

}  // namespace onnx_serving
