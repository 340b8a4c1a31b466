#include "../infer_body.h"

#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

Result<InferBodyScan> scan(std::string_view text) {
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  return scanInferBody(bytes);
}

/** The envelope, then each section behind a bar; or the error. */
std::string shown(std::string_view text) {
  auto result = scan(text);
  if (!result.ok()) return result.status().message();
  std::string all = result.value().envelope;
  for (const Section& section : result.value().sections) {
    all += '|';
    all += text.substr(section.start, section.end - section.start);
  }
  return all;
}

}  // namespace

void testInferBody() {
  CHECK(shown(R"({"inputs":[{"name":"x","data":[1,[2.5]],"shape":[2]},{"data" : "a]" }],"id":"7"})") ==
        R"({"inputs":[{"name":"x","data":0 ,"shape":[2]},{"data" : 1  }],"id":"7"}|[1,[2.5]]|"a]")");
  CHECK(shown(R"({"inputs":[{"data":{"data":[1]}},{"data":true},{"data":-1e5}]})") ==
        R"({"inputs":[{"data":0 },{"data":1 },{"data":2 }]}|{"data":[1]}|true|-1e5)");
  CHECK(shown(R"({"data":[1],"outputs":[{"data":[1]}],"inputs":{"data":[1]}})") ==
        R"({"data":[1],"outputs":[{"data":[1]}],"inputs":{"data":[1]}})");
  CHECK(shown(R"({"inputs":[{"parameters":{"data":[1]}},[{"data":[1]}]]})") ==
        R"({"inputs":[{"parameters":{"data":[1]}},[{"data":[1]}]]})");
  CHECK(shown(R"([{"inputs":[{"data":[1]}]}])") == R"([{"inputs":[{"data":[1]}]}])");
  CHECK(shown(R"({"\u0069nputs":[{"d\u0061ta":7,"dat\\a":8}]})") ==
        R"({"\u0069nputs":[{"d\u0061ta":0 ,"dat\\a":8}]}|7)");
  CHECK(shown(R"({"inputs":[{"name":"\"data\":[","data":[1]}]})") ==
        R"({"inputs":[{"name":"\"data\":[","data":0 }]}|[1])");
  CHECK(shown(R"({"inputs":["data",{"x":"data","data":[]}]})") ==
        R"({"inputs":["data",{"x":"data","data":0 }]}|[])");
  // A number that JSON.parse would glue together with what follows.
  CHECK(shown(R"({"inputs":[{"data":[1]5}]})") == R"({"inputs":[{"data":0 5}]}|[1])");
  CHECK(shown(R"({"inputs":[{"data":,"data":}]})") == R"({"inputs":[{"data":,"data":}]})");
  CHECK(shown(R"({"inputs":1,[{"data":[1]}]})") == R"({"inputs":1,[{"data":[1]}]})");
  CHECK(shown("") == "" && shown("  7 ") == "  7 ");

  CHECK(shown(R"({"inputs":[{"data":[1,2)") == "the data at byte 19 does not end");
  CHECK(shown(R"({"inputs":[{"data":["a)") == "the string at byte 20 does not end");
  CHECK(shown(R"({"inputs":[{"data":["a\)") == "the string at byte 20 does not end");
  CHECK(shown(R"({"inputs":[{"data":[1}]})") == "'}' at byte 21 closes nothing that is open");
  CHECK(shown(R"({"inputs":[)") == "the array at byte 10 does not end");
  CHECK(shown(R"({"inputs")") == "the object at byte 0 does not end");
  CHECK(shown("]") == "']' at byte 0 closes nothing that is open");
  CHECK(shown("{\"a\":\"\xFF\"}") == "the text at byte 6 is not UTF-8");
  CHECK(scan("{\"a\":\"\xC3\xA9\"}").value().isAscii == false);
  CHECK(scan(std::string(128, '[') + std::string(128, ']')).ok());
  CHECK(shown(std::string(129, '[')) == "the value at byte 128 is nested more than 128 levels deep");
  CHECK(!scan(R"({"inputs":[{"data":)" + std::string(126, '[')).ok());
}
