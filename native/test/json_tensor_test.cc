#include "../json_tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

/** The message of parsing, empty on success. */
template <class T>
std::string parse(std::string_view text, Datatype datatype, std::vector<size_t> shape, std::vector<T>& out) {
  size_t count = 1;
  for (const size_t dim : shape) count *= dim;
  // Exactly the room that the contract asks for, on both sides.
  const std::vector<uint8_t> body(text.begin(), text.end());
  out.assign(count, T{});
  return parseTensor(body, 0, body.size(), datatype, shape, out.data()).message();
}

std::string parseFloats(std::string_view text, std::vector<size_t> shape) {
  std::vector<float> out;
  const std::string message = parse(text, Datatype::kFp32, std::move(shape), out);
  return message.empty() ? printTensor(Datatype::kFp32, out.data(), out.size()) : message;
}

template <class T>
void printsWhatItReads(Datatype datatype, std::mt19937_64& random) {
  std::vector<T> values(300);
  for (T& value : values) {
    const uint64_t bits = random();
    std::memcpy(&value, &bits, sizeof value);
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(value)) value = 1;
    }
  }
  std::vector<T> back;
  CHECK(parse(printTensor(datatype, values.data(), values.size()), datatype, {values.size()}, back).empty());
  CHECK(std::memcmp(values.data(), back.data(), values.size() * sizeof(T)) == 0);
}

}  // namespace

void testJsonTensor() {
  CHECK(parseFloats("[1, 2.5 ,-3e2,\n4]", {2, 2}) == "[1,2.5,-300,4]");
  CHECK(parseFloats(" [ [1,2] , [3,4] ] ", {2, 2}) == "[1,2,3,4]");
  CHECK(parseFloats("5", {}) == "[5]" && parseFloats("[5]", {}) == "[5]");
  CHECK(parseFloats("[]", {0, 3}) == "[]" && parseFloats("[[],[]]", {2, 0}) == "[]");
  CHECK(parseFloats("[[],[ ]]", {2, 0, 4}) == "[]");
  CHECK(parseFloats(R"([NaN,"NaN",Infinity,"-Infinity",-0,-0.0])", {6}) ==
        "[NaN,NaN,Infinity,-Infinity,-0.0,-0.0]");

  CHECK(parseFloats("[1,2,3]", {2, 2}) == "data has 3 elements, expected 4 for shape [2,2]");
  CHECK(parseFloats("[1]", {0}) == "data has 1 element, expected 0 for shape [0]");
  CHECK(parseFloats("[[1,2],[3]]", {2, 2}) ==
        "data has an array of 1 at dimension 1, expected 2 for shape [2,2] (byte 7)");
  CHECK(parseFloats("[[1,2],[3,4],[5,6]]", {2, 2}) ==
        "data has an array of more than 2 at dimension 0, expected 2 for shape [2,2] (byte 0)");
  CHECK(parseFloats("[[1,2]]", {2, 2}) ==
        "data has an array of 1 at dimension 0, expected 2 for shape [2,2] (byte 0)");
  for (const char* bad :
       {"",        "[",         "[1",        "[1,",      "[1,]",     "[,1]",        "[1 2]",
        "[1]]",    "[1,2] x",   "{}",        "[+1,2]",   "[01,2]",   "[1.,2]",      "[1,2e]",
        "[nan,1]", "[\"1\",2]", "[1,null]",  "[1e39,1]", "[[1],[2]", "[[[1],[2]]]", "[1,[2]]",
        "[[1],2]", "1",         "[\"NaN,1]", "[-1e39,1]"}) {
    CHECK(!parseFloats(bad, {2, 1}).empty());
  }

  std::vector<int32_t> whole;
  CHECK(parse("[-2147483648, 2147483647]", Datatype::kInt32, {2}, whole).empty());
  CHECK(whole[0] == std::numeric_limits<int32_t>::min() && whole[1] == std::numeric_limits<int32_t>::max());
  CHECK(parse("[1,3000000000]", Datatype::kInt32, {2}, whole) ==
        "data[1]: expected INT32, -2147483648 to 2147483647, got 3000000000 (byte 3)");
  CHECK(parse("[1.0]", Datatype::kInt32, {1}, whole) ==
        "data[0]: expected INT32, -2147483648 to 2147483647, got 1.0 (byte 1)");
  CHECK(parse("[\x01\xFF, 1]", Datatype::kInt32, {2}, whole).find("got ?? (byte 1)") != std::string::npos);
  CHECK(parse("[" + std::string(50, '9') + "]", Datatype::kInt32, {1}, whole)
            .find("got " + std::string(29, '9') + "... (") != std::string::npos);

  std::vector<uint64_t> big;
  CHECK(parse(R"([18446744073709551615,"18446744073709551615",-0])", Datatype::kUint64, {3}, big).empty());
  CHECK(big[0] == UINT64_MAX && big[1] == UINT64_MAX && big[2] == 0);
  for (const char* bad : {"18446744073709551616", "99999999999999999999", "-1", "\"1", "\" 1\"", "1e0",
                          "184467440737095516150", "\"\""}) {
    CHECK(!parse(bad, Datatype::kUint64, {}, big).empty());
  }
  std::vector<uint8_t> flags;
  CHECK(parse("[true,false,1,0]", Datatype::kBool, {4}, flags).empty());
  CHECK((flags == std::vector<uint8_t>{1, 0, 1, 0}));
  CHECK(printTensor(Datatype::kBool, flags.data(), 4) == "[true,false,true,false]");
  for (const char* bad : {"[2]", "[True]", "[truex]", "[\"true\"]", "[10]", "[tru]"}) {
    CHECK(!parse(bad, Datatype::kBool, {1}, flags).empty());
  }

  std::mt19937_64 random(3);
  for (int round = 0; round < 100; ++round) {
    printsWhatItReads<float>(Datatype::kFp32, random);
    printsWhatItReads<double>(Datatype::kFp64, random);
    printsWhatItReads<int8_t>(Datatype::kInt8, random);
    printsWhatItReads<uint8_t>(Datatype::kUint8, random);
    printsWhatItReads<int16_t>(Datatype::kInt16, random);
    printsWhatItReads<uint16_t>(Datatype::kUint16, random);
    printsWhatItReads<int32_t>(Datatype::kInt32, random);
    printsWhatItReads<uint32_t>(Datatype::kUint32, random);
    printsWhatItReads<int64_t>(Datatype::kInt64, random);
    printsWhatItReads<uint64_t>(Datatype::kUint64, random);
  }
}
