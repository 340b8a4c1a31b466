#include "../table/id_hash.h"

#include <string>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

uint64_t xxh64(std::string_view text, uint64_t seed = 0) { return idOfText(text, IdHash::kXxh64, seed, 0); }

void testNumbers() {
  const auto signedKey = [](int64_t id, uint64_t modulus, uint64_t rows) {
    return keyOfId(static_cast<uint64_t>(id), {modulus, rows, true});
  };
  CHECK(signedKey(5, 0, 0) == 5 && signedKey(-1, 0, 0) == UINT64_MAX);
  CHECK(signedKey(INT64_MIN, 0, 0) == uint64_t{1} << 63);
  for (const int64_t id : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{6}, int64_t{7}, int64_t{-7},
                           int64_t{-8}, INT64_MAX, INT64_MIN, INT64_MIN + 1}) {
    const int64_t remainder = id % 7;
    CHECK(signedKey(id, 7, 0) == static_cast<uint64_t>(remainder < 0 ? remainder + 7 : remainder));
    CHECK(signedKey(id, 1, 0) == 0);
  }
  CHECK(keyOfId(UINT64_MAX, {10, 0, false}) == 5 && keyOfId(uint64_t{1} << 63, {0, 0, false}) == uint64_t{1}
                                                                                                     << 63);
  CHECK(signedKey(9, 0, 10) == 9 && signedKey(-1, 0, 10) == 9 && signedKey(-10, 0, 10) == 0);
  for (const int64_t id : {int64_t{10}, int64_t{-11}, INT64_MAX, INT64_MIN})
    CHECK(signedKey(id, 0, 10) == kNoRow);
  const uint64_t most = uint64_t{1} << 53;
  CHECK(signedKey(-1, 0, most) == most - 1 && signedKey(static_cast<int64_t>(most), 0, most) == kNoRow);
  CHECK(signedKey(-1, 12, 10) == kNoRow && signedKey(-12, 12, 10) == 0);
}

}  // namespace

void testIdHash() {
  CHECK(xxh64("") == 0xef46db3751d8e999u && xxh64("a") == 0xd24ec4f1a98c6e5bu);
  CHECK(xxh64("abc") == 0x44bc2cf5ad770999u && xxh64("xxhash", 20141025) == 13067679811253438005u);
  CHECK(murmur3("", 0) == 0 && murmur3("hello", 0) == 0xcbd8a7b341bd9b02u);
  CHECK(murmur3("hello, world", 1) == 0x8b95f808840725c6u && murmur3("hello", 42) == 0xc4b8b3c960af6f08u);
  CHECK(murmur3("19 Jan 2038 at 3:14:07 AM", 0) == 0xb89e5988b737affcu);
  CHECK(fnv1a("") == 0xcbf29ce484222325u && fnv1a("foobar") == 0x85944171f73967e8u);
  CHECK(python2Hash("") == 0 && python2Hash("a") == 12416037344);
  CHECK(idOfText("145a9ed9b0", IdHash::kPython2, 0, 1'000'001) == 230803);
  CHECK(idOfText("14", IdHash::kPython2, 0, 1'000'001) == 25204);
  CHECK(idOfText("1405db9164", IdHash::kPython2, 0, 1'000'001) == 737395);
  CHECK(idOfText("", IdHash::kXxh64, 0, 1000) == 0xef46db3751d8e999u % 1000);
  // No byte behind the text is read: each length stands at the end of its own memory.
  for (size_t length = 0; length < 70; ++length) {
    const std::string longer(length + 9, 'x');
    const std::vector<char> exact(length, 'x');
    const std::string_view text(exact.data(), exact.size());
    for (const IdHash function : {IdHash::kXxh64, IdHash::kMurmur3, IdHash::kFnv1a, IdHash::kPython2}) {
      CHECK(idOfText(text, function, 7, 0) ==
            idOfText(std::string_view(longer).substr(3, length), function, 7, 0));
    }
  }
  testNumbers();
}
