#include "id_hash.h"

#include <bit>
#include <cstring>
#include <span>

#include "../xxh64.h"

namespace onnx_serving {
namespace {

// Constants and steps of MurmurHash3_x64_128:
// https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp (public domain).
constexpr uint64_t kC1 = 0x87c37b91114253d5u;
constexpr uint64_t kC2 = 0x4cf5ad432745937fu;

uint64_t mixFirst(uint64_t k) { return std::rotl(k * kC1, 31) * kC2; }
uint64_t mixSecond(uint64_t k) { return std::rotl(k * kC2, 33) * kC1; }

uint64_t finish(uint64_t k) {
  k ^= k >> 33;
  k *= 0xff51afd7ed558ccdu;
  k ^= k >> 33;
  k *= 0xc4ceb9fe1a85ec53u;
  return k ^ k >> 33;
}

/** Up to eight bytes, little-endian. */
uint64_t load(const char* from, size_t count) {
  uint64_t value = 0;
  std::memcpy(&value, from, count);
  return value;
}

}  // namespace

uint64_t murmur3(std::string_view text, uint32_t seed) {
  uint64_t h1 = seed;
  uint64_t h2 = seed;
  const char* at = text.data();
  size_t left = text.size();
  for (; left >= 16; at += 16, left -= 16) {
    h1 ^= mixFirst(load(at, 8));
    h1 = (std::rotl(h1, 27) + h2) * 5 + 0x52dce729;
    h2 ^= mixSecond(load(at + 8, 8));
    h2 = (std::rotl(h2, 31) + h1) * 5 + 0x38495ab5;
  }
  if (left > 8) h2 ^= mixSecond(load(at + 8, left - 8));
  if (left > 0) h1 ^= mixFirst(load(at, left < 8 ? left : 8));
  h1 ^= text.size();
  h2 ^= text.size();
  h1 += h2;
  h2 += h1;
  h1 = finish(h1);
  h2 = finish(h2);
  return h1 + h2;
}

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

int64_t python2Hash(std::string_view text) {
  if (text.empty()) return 0;
  uint64_t hash = static_cast<uint64_t>(static_cast<uint8_t>(text[0])) << 7;
  for (const char c : text) hash = (hash * 1000003) ^ static_cast<uint8_t>(c);
  hash ^= text.size();
  const auto value = static_cast<int64_t>(hash);
  return value == -1 ? -2 : value;
}

uint64_t keyOfId(uint64_t id, const IdRule& rule) {
  if (rule.modulus != 0) {
    if (rule.isSigned) {
      const auto by = static_cast<int64_t>(rule.modulus);
      const int64_t remainder = static_cast<int64_t>(id) % by;
      id = static_cast<uint64_t>(remainder < 0 ? remainder + by : remainder);
    } else {
      id %= rule.modulus;
    }
  }
  if (rule.rows == 0) return id;
  const bool isNegative = rule.isSigned && static_cast<int64_t>(id) < 0;
  // Wraps around to the position, or to something beyond all rows.
  const uint64_t position = isNegative ? id + rule.rows : id;
  return position < rule.rows ? position : kNoRow;
}

uint64_t idOfText(std::string_view text, IdHash function, uint64_t seed, uint64_t modulus) {
  uint64_t hash = 0;
  switch (function) {
    case IdHash::kXxh64: {
      Xxh64 state(seed);
      state.update(std::as_bytes(std::span(text.data(), text.size())));
      hash = state.digest();
      break;
    }
    case IdHash::kMurmur3:
      hash = murmur3(text, static_cast<uint32_t>(seed));
      break;
    case IdHash::kFnv1a:
      hash = fnv1a(text);
      break;
    case IdHash::kPython2:
      return keyOfId(static_cast<uint64_t>(python2Hash(text)), {modulus, 0, true});
  }
  return modulus == 0 ? hash : hash % modulus;
}

}  // namespace onnx_serving
