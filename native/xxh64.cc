#include "xxh64.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace onnx_serving {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5;

template <class T>
T readLittleEndian(const std::byte* at) {
  if constexpr (std::endian::native == std::endian::little) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  } else {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(at[i]) << (8 * i);
    return value;
  }
}

uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * kPrime2, 31) * kPrime1; }

void consumeStripe(uint64_t (&lanes)[4], const std::byte* stripe) {
  for (size_t i = 0; i < 4; ++i) lanes[i] = round(lanes[i], readLittleEndian<uint64_t>(stripe + 8 * i));
}

}  // namespace

Xxh64::Xxh64(uint64_t seed)
    : seed_(seed), lanes_{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1} {}

void Xxh64::update(std::span<const std::byte> bytes) {
  totalBytes_ += bytes.size();
  if (pendingBytes_ > 0) {
    const size_t taken = std::min(bytes.size(), sizeof pending_ - pendingBytes_);
    std::copy_n(bytes.data(), taken, pending_ + pendingBytes_);
    pendingBytes_ += taken;
    bytes = bytes.subspan(taken);
    if (pendingBytes_ < sizeof pending_) return;
    consumeStripe(lanes_, pending_);
    pendingBytes_ = 0;
  }
  uint64_t lanes[4] = {lanes_[0], lanes_[1], lanes_[2], lanes_[3]};
  while (bytes.size() >= 32) {
    consumeStripe(lanes, bytes.data());
    bytes = bytes.subspan(32);
  }
  std::copy_n(lanes, 4, lanes_);
  std::copy_n(bytes.data(), bytes.size(), pending_);
  pendingBytes_ = bytes.size();
}

uint64_t Xxh64::digest() const {
  uint64_t hash = seed_ + kPrime5;
  if (totalBytes_ >= 32) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  hash += totalBytes_;
  const std::byte* at = pending_;
  const std::byte* const end = pending_ + pendingBytes_;
  for (; end - at >= 8; at += 8) {
    hash = std::rotl(hash ^ round(0, readLittleEndian<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  }
  if (end - at >= 4) {
    hash = std::rotl(hash ^ readLittleEndian<uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
  }
  for (; at < end; ++at) hash = std::rotl(hash ^ static_cast<uint64_t>(*at) * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

std::string hexDigits(uint64_t hash) {
  std::string digits(16, '0');
  for (int i = 15; i >= 0; --i, hash >>= 4) digits[static_cast<size_t>(i)] = "0123456789abcdef"[hash & 15];
  return digits;
}

}  // namespace onnx_serving
