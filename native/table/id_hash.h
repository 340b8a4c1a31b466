#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace onnx_serving {

/** How text becomes a key. The numbers are the binding's. */
enum class IdHash : uint32_t {
  /** XXH64. */
  kXxh64 = 1,
  /** The low half of MurmurHash3 x64 128, whose seed has 32 bits. */
  kMurmur3 = 2,
  /** FNV-1a on 64 bits; no seed. */
  kFnv1a = 3,
  /** The string hash of CPython 2 on 64-bit machines, without randomisation: a signed number. No seed. */
  kPython2 = 4,
};

uint64_t murmur3(std::string_view text, uint32_t seed);
uint64_t fnv1a(std::string_view text);
int64_t python2Hash(std::string_view text);

/**
 * The key of a text.
 *
 * @param modulus 0 for none; otherwise the key is the remainder, for kPython2 that of the signed number as
 * Python has it, which is never negative
 */
uint64_t idOfText(std::string_view text, IdHash function, uint64_t seed, uint64_t modulus);

/** How ids that are numbers become keys. */
struct IdRule {
  /** 0 for none; otherwise the id's remainder, that of Python and ONNX Mod for signed ids. */
  uint64_t modulus = 0;
  /** 0 for none; otherwise ids are positions in that many rows, negative ones from the end. */
  uint64_t rows = 0;
  /** Whether the id's 64 bits are a signed number. */
  bool isSigned = true;
};

/** The key that stands for a position outside of `rows`: no row of a table that was cut out of a model has
 * it. */
inline constexpr uint64_t kNoRow = UINT64_MAX;

/** The key of a number. */
uint64_t keyOfId(uint64_t id, const IdRule& rule);

}  // namespace onnx_serving
