#include <array>
#include <vector>

#include "infer_body.h"
#include "json_tensor.h"
#include "napi_support.h"

namespace onnx_serving {
namespace {

napi_typedarray_type arrayTypeOf(Datatype datatype) {
  switch (datatype) {
    case Datatype::kFp32:
      return napi_float32_array;
    case Datatype::kInt8:
      return napi_int8_array;
    case Datatype::kUint16:
      return napi_uint16_array;
    case Datatype::kInt16:
      return napi_int16_array;
    case Datatype::kInt32:
      return napi_int32_array;
    case Datatype::kInt64:
      return napi_bigint64_array;
    case Datatype::kFp64:
      return napi_float64_array;
    case Datatype::kUint32:
      return napi_uint32_array;
    case Datatype::kUint64:
      return napi_biguint64_array;
    case Datatype::kUint8:
    case Datatype::kBool:
      break;
  }
  return napi_uint8_array;
}

Datatype datatypeArgument(Arguments& arguments, size_t index) {
  const size_t number = arguments.size(index, "onnxType");
  const auto datatype = static_cast<Datatype>(number <= 255 ? static_cast<int32_t>(number) : 0);
  if (elementBytes(datatype) == 0) arguments.refuse("onnxType is not one that JSON text can carry");
  return datatype;
}

/** A shape of at most kMaxRank dimensions, without memory of its own. */
struct Shape {
  std::array<size_t, kMaxRank> dims;
  size_t rank = 0;
  /** Product of the dimensions. */
  size_t count = 1;

  std::span<const size_t> span() const { return {dims.data(), rank}; }
};

bool appendDim(Shape& shape, double dim) {
  if (!(dim >= 0) || dim > 9007199254740991.0) return false;
  const auto whole = static_cast<uint64_t>(dim);
  if (static_cast<double>(whole) != dim) return false;
  shape.dims[shape.rank++] = static_cast<size_t>(whole);
  return true;
}

Shape shapeArgument(Arguments& arguments, size_t index) {
  Shape shape;
  if (!arguments.ok()) return shape;
  const napi_env env = arguments.env();
  const napi_value value = arguments.at(index);
  bool isArray = false;
  uint32_t length = 0;
  napi_is_array(env, value, &isArray);
  bool isGood = isArray && napi_get_array_length(env, value, &length) == napi_ok && length <= kMaxRank;
  for (uint32_t i = 0; isGood && i < length; ++i) {
    napi_value element;
    double dim;
    isGood = napi_get_element(env, value, i, &element) == napi_ok &&
             napi_get_value_double(env, element, &dim) == napi_ok && appendDim(shape, dim);
  }
  if (!isGood) {
    arguments.refuse("shape is not an array of at most 64 non-negative integers");
    return shape;
  }
  bool isOverflow = false;
  bool hasZero = false;
  for (const size_t dim : shape.span()) {
    if (dim == 0) {
      hasZero = true;
    } else {
      isOverflow |= __builtin_mul_overflow(shape.count, dim, &shape.count);
    }
  }
  if (hasZero) {
    shape.count = 0;
  } else if (isOverflow) {
    arguments.refuse("shape has more elements than can be counted");
  }
  return shape;
}

/** The arguments of parseTensor, good to use once `Arguments::ok` says so. */
struct ParseCall {
  explicit ParseCall(Arguments& arguments)
      : body(arguments.bytes(0, "body")),
        start(arguments.size(1, "start")),
        end(arguments.size(2, "end")),
        datatype(datatypeArgument(arguments, 3)),
        shape(shapeArgument(arguments, 4)) {
    const TypedArray array = arguments.typedArray(5, "out");
    out = array.data;
    if (!arguments.ok()) return;
    if (start > end || end > body.size()) arguments.refuse("start and end do not lie in the body");
    if (array.type != arrayTypeOf(datatype)) arguments.refuse("out is not the typed array of the datatype");
    if (array.length != shape.count) {
      arguments.refuse("out has " + std::to_string(array.length) + " elements, expected " +
                       std::to_string(shape.count));
    }
  }

  Status run() const { return parseTensor(body, start, end, datatype, shape.span(), out); }

  std::span<const uint8_t> body;
  size_t start;
  size_t end;
  Datatype datatype;
  Shape shape;
  void* out;
};

napi_value parseTensorSync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "parseTensor");
  const ParseCall call(arguments);
  if (!arguments.ok()) return arguments.raise();
  const Status status = call.run();
  return status.ok() ? nullptr : raise(env, status);
}

class ParseTask : public AsyncTask {
 public:
  explicit ParseTask(const ParseCall& call) : call_(call) {}
  Status execute() override { return call_.run(); }
  napi_value result(napi_env env) override {
    napi_value value = nullptr;
    napi_get_undefined(env, &value);
    return value;
  }

 private:
  ParseCall call_;
};

napi_value parseTensorAsync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "parseTensorAsync");
  const ParseCall call(arguments);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  const napi_value kept[] = {arguments.at(0), arguments.at(5)};
  return startTask(env, std::make_unique<ParseTask>(call), kept);
}

/** The arguments of printTensor. */
struct PrintCall {
  explicit PrintCall(Arguments& arguments) {
    const TypedArray array = arguments.typedArray(0, "data");
    datatype = datatypeArgument(arguments, 1);
    const size_t start = arguments.size(2, "start");
    count = arguments.size(3, "count");
    if (!arguments.ok()) return;
    if (array.type != arrayTypeOf(datatype)) arguments.refuse("data is not the typed array of the datatype");
    if (start > array.length || count > array.length - start)
      arguments.refuse("start and count go beyond data");
    elements = static_cast<const char*>(array.data) + (arguments.ok() ? start * elementBytes(datatype) : 0);
  }

  Datatype datatype;
  size_t count;
  const void* elements = nullptr;
};

napi_value printTensorSync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "printTensor");
  const PrintCall call(arguments);
  if (!arguments.ok()) return arguments.raise();
  napi_value text = nullptr;
  constexpr size_t kSmall = 128;
  if (call.count <= kSmall) {
    char buffer[kSmall * kMaxElementText + 2];
    const char* const end = printTensorTo(buffer, call.datatype, call.elements, call.count);
    napi_create_string_latin1(env, buffer, static_cast<size_t>(end - buffer), &text);
    return text;
  }
  const std::string printed = printTensor(call.datatype, call.elements, call.count);
  if (napi_create_string_latin1(env, printed.data(), printed.size(), &text) != napi_ok) {
    return raise(env, Status(code::kOutOfMemory, "printTensor: " + std::to_string(printed.size()) +
                                                     " characters are more than a string holds"));
  }
  return text;
}

class PrintTask : public AsyncTask {
 public:
  explicit PrintTask(const PrintCall& call) : call_(call), text_(std::make_unique<std::string>()) {}
  Status execute() override {
    *text_ = printTensor(call_.datatype, call_.elements, call_.count);
    return {};
  }
  napi_value result(napi_env env) override { return arrayBufferOf(env, std::move(text_)); }

 private:
  PrintCall call_;
  std::unique_ptr<std::string> text_;
};

napi_value printTensorAsync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "printTensorAsync");
  const PrintCall call(arguments);
  if (!arguments.ok()) return rejected(env, arguments.problem());
  const napi_value kept[] = {arguments.at(0)};
  return startTask(env, std::make_unique<PrintTask>(call), kept);
}

napi_value envelopeOf(napi_env env, const InferBodyScan& scan) {
  napi_value text = nullptr;
  const auto create = scan.isAscii ? napi_create_string_latin1 : napi_create_string_utf8;
  if (create(env, scan.envelope.data(), scan.envelope.size(), &text) != napi_ok) {
    return raise(env, Status(code::kOutOfMemory, "the request without its data is too long for a string"));
  }
  return text;
}

/**
 * scanInferBody(body, found): the envelope. found[0] becomes the number of sections, then start and end of
 * each, as many as fit: a Float64Array kept by the caller costs a tenth of a new one per call.
 */
napi_value scanInferBodySync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "scanInferBody");
  const std::span<const uint8_t> body = arguments.bytes(0, "body");
  const TypedArray found = arguments.typedArray(1, "found");
  if (arguments.ok() && (found.type != napi_float64_array || found.length == 0)) {
    arguments.refuse("found is not a Float64Array with room");
  }
  if (!arguments.ok()) return arguments.raise();
  Result<InferBodyScan> result = scanInferBody(body);
  if (!result.ok()) return raise(env, result.status());
  const InferBodyScan& scan = result.value();
  auto* const numbers = static_cast<double*>(found.data);
  numbers[0] = static_cast<double>(scan.sections.size());
  for (size_t i = 0; i < scan.sections.size() && 2 * i + 2 < found.length; ++i) {
    numbers[2 * i + 1] = static_cast<double>(scan.sections[i].start);
    numbers[2 * i + 2] = static_cast<double>(scan.sections[i].end);
  }
  return envelopeOf(env, scan);
}

class ScanTask : public AsyncTask {
 public:
  explicit ScanTask(std::span<const uint8_t> body) : body_(body) {}

  Status execute() override {
    Result<InferBodyScan> result = scanInferBody(body_);
    if (!result.ok()) return result.status();
    scan_ = std::move(result.value());
    return {};
  }

  /** { envelope, sections } */
  napi_value result(napi_env env) override {
    napi_value object, buffer, sections;
    void* memory = nullptr;
    const size_t count = scan_.sections.size() * 2;
    const napi_value envelope = envelopeOf(env, scan_);
    if (envelope == nullptr || napi_create_object(env, &object) != napi_ok ||
        napi_create_arraybuffer(env, count * sizeof(double), &memory, &buffer) != napi_ok ||
        napi_create_typedarray(env, napi_float64_array, count, buffer, 0, &sections) != napi_ok) {
      return nullptr;
    }
    auto* number = static_cast<double*>(memory);
    for (const Section& section : scan_.sections) {
      *number++ = static_cast<double>(section.start);
      *number++ = static_cast<double>(section.end);
    }
    napi_set_named_property(env, object, "envelope", envelope);
    napi_set_named_property(env, object, "sections", sections);
    return object;
  }

 private:
  std::span<const uint8_t> body_;
  InferBodyScan scan_;
};

napi_value scanInferBodyAsync(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info, "scanInferBodyAsync");
  const std::span<const uint8_t> body = arguments.bytes(0, "body");
  if (!arguments.ok()) return rejected(env, arguments.problem());
  const napi_value kept[] = {arguments.at(0)};
  return startTask(env, std::make_unique<ScanTask>(body), kept);
}

}  // namespace

void exportJsonTensor(napi_env env, napi_value exports) {
  exportFunction(env, exports, "scanInferBody", scanInferBodySync);
  exportFunction(env, exports, "scanInferBodyAsync", scanInferBodyAsync);
  exportFunction(env, exports, "parseTensor", parseTensorSync);
  exportFunction(env, exports, "parseTensorAsync", parseTensorAsync);
  exportFunction(env, exports, "printTensor", printTensorSync);
  exportFunction(env, exports, "printTensorAsync", printTensorAsync);
}

}  // namespace onnx_serving
