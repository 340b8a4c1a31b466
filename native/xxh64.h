#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace onnx_serving {

/**
 * XXH64 over bytes that arrive in pieces.
 *
 * Written from "xxHash fast digest algorithm", version 0.2.0,
 * https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. It finds changed files, it does not
 * withstand somebody who wants two files to agree.
 */
class Xxh64 {
 public:
  explicit Xxh64(uint64_t seed = 0);
  void update(std::span<const std::byte> bytes);
  /** The hash of all bytes so far. */
  uint64_t digest() const;

 private:
  uint64_t seed_;
  uint64_t lanes_[4];
  std::byte pending_[32];
  size_t pendingBytes_ = 0;
  uint64_t totalBytes_ = 0;
};

/** The canonical form of a hash: 16 lower-case hex digits, most significant first. */
std::string hexDigits(uint64_t hash);

}  // namespace onnx_serving
