#include "../xxh64.h"

#include <cstring>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

uint64_t hashOf(std::span<const std::byte> bytes, uint64_t seed, size_t pieceBytes) {
  Xxh64 hash(seed);
  for (size_t done = 0; done < bytes.size(); done += pieceBytes) {
    hash.update(bytes.subspan(done, std::min(pieceBytes, bytes.size() - done)));
  }
  return hash.digest();
}

uint64_t hashOf(const char* text) { return hashOf(std::as_bytes(std::span(text, std::strlen(text))), 0, 7); }

}  // namespace

void testXxh64() {
  // The sanity buffer and values of the reference implementation's own test.
  constexpr uint64_t kPrime32 = 2654435761;
  std::vector<std::byte> buffer(222);
  uint64_t generator = kPrime32;
  for (std::byte& byte : buffer) {
    byte = static_cast<std::byte>(generator >> 56);
    generator *= 11400714785074694797U;
  }
  struct Vector {
    size_t length;
    uint64_t seed;
    uint64_t hash;
  };
  constexpr Vector kVectors[] = {
      {0, 0, 0xEF46DB3751D8E999},          {0, kPrime32, 0xAC75FDA2929B17EF},
      {1, 0, 0xE934A84ADB052768},          {1, kPrime32, 0x5014607643A9B4C3},
      {4, 0, 0x9136A0DCA57457EE},          {14, 0, 0x8282DCC4994E35C8},
      {14, kPrime32, 0xC3BD6BF63DEB6DF0},  {222, 0, 0xB641AE8CB691C174},
      {222, kPrime32, 0x20CB8AB7AE10C14A},
  };
  for (const Vector& vector : kVectors) {
    for (const size_t piece : {1, 5, 31, 32, 33, 1000}) {
      CHECK(hashOf(std::span(buffer).first(vector.length), vector.seed, piece) == vector.hash);
    }
  }
  CHECK(hashOf("a") == 0xD24EC4F1A98C6E5B);
  CHECK(hashOf("abc") == 0x44BC2CF5AD770999);
  CHECK(hashOf("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1);
  CHECK(hexDigits(0x0123456789ABCDEF) == "0123456789abcdef");
}
