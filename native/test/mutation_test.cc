#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../infer_body.h"
#include "../json_tensor.h"
#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr std::string_view kBodies[] = {
    R"({"id":"42","inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[[0.1234567890123456,-1e-7,3],[4.5E+10,NaN,"-Infinity"]]},{"name":"ids","shape":[2],"datatype":"INT64","data":["9223372036854775807",-1]}],"outputs":[{"name":"y"}]})",
    R"({"inputs":[{"d\u0061ta":["a\"b\\","é€😀"],"shape":[2],"datatype":"BYTES"},{"data":[[true,false],[1,0]],"shape":[2,2]}]})",
    R"([[1,2,3],[4,5,6]])",
};

constexpr std::string_view kPieces[] = {"[",
                                        "]",
                                        "{",
                                        "}",
                                        "\"",
                                        "\\",
                                        ",",
                                        ":",
                                        "0",
                                        "-",
                                        "e",
                                        ".",
                                        " ",
                                        "\xFF",
                                        "\\u0061",
                                        "\"data\":",
                                        "\"inputs\":[{",
                                        "9999999999999999999999",
                                        "NaN"};

std::string mutate(std::string text, std::mt19937& random) {
  for (auto changes = random() % 4; changes-- > 0 && !text.empty();) {
    const size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 8);
        break;
      case 2:
        text.insert(at, kPieces[random() % std::size(kPieces)]);
        break;
      case 3:
        text.resize(at);
        break;
      default:
        text.insert(at, text.substr(random() % text.size(), random() % 20));
    }
  }
  return text;
}

void parseAnyhow(const std::vector<uint8_t>& body, size_t start, size_t end, std::mt19937& random) {
  constexpr Datatype kDatatypes[] = {Datatype::kFp32,  Datatype::kFp64,  Datatype::kInt64, Datatype::kUint64,
                                     Datatype::kInt32, Datatype::kUint8, Datatype::kBool};
  const std::vector<size_t> shapes[] = {{}, {2}, {2, 3}, {6}, {2, 2}, {0}, {2, 0}, {1, 2, 3}};
  const std::vector<size_t>& shape = shapes[random() % std::size(shapes)];
  size_t count = 1;
  for (const size_t dim : shape) count *= dim;
  const Datatype datatype = kDatatypes[random() % std::size(kDatatypes)];
  std::vector<uint64_t> out((count * elementBytes(datatype) + 7) / 8);
  const Status status = parseTensor(body, start, end, datatype, shape, out.data());
  if (status.ok() && datatype != Datatype::kBool) {
    const std::string text = printTensor(datatype, out.data(), count);
    const std::vector<uint8_t> again(text.begin(), text.end());
    CHECK(parseTensor(again, 0, again.size(), datatype, shape, out.data()).ok());
  }
}

}  // namespace

/** Broken text ends in an error or in a result, never in a read or write out of bounds. */
void testMutations() {
  std::mt19937 random(4);
  for (int round = 0; round < 60000; ++round) {
    const std::string text = mutate(std::string(kBodies[random() % std::size(kBodies)]), random);
    const std::vector<uint8_t> body(text.begin(), text.end());
    parseAnyhow(body, 0, body.size(), random);
    auto result = scanInferBody(body);
    if (!result.ok()) {
      CHECK(!result.status().message().empty());
      continue;
    }
    size_t last = 0;
    for (const Section& section : result.value().sections) {
      CHECK(last <= section.start && section.start < section.end && section.end <= body.size());
      last = section.end;
      parseAnyhow(body, section.start, section.end, random);
    }
  }
}
