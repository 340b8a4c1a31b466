#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace onnx_serving {

/**
 * What deltas change on top of a snapshot: for each key the address of its row, or that it is gone.
 *
 * A filter of 16 bits a key stands before the entries, so that a key which no delta names costs one look at
 * memory that is mostly in the cache. Filled once, then only read, from any thread. Owns no rows.
 */
class Overlay {
 public:
  struct Entry {
    uint64_t key;
    /** Null: no entry; `kDeleted`: the key is gone. */
    const std::byte* row;
  };

  /** @param keys most keys that will be set */
  explicit Overlay(size_t keys);

  /** The newest change of a key: replaces an older one. */
  void set(uint64_t key, const std::byte* row);
  void erase(uint64_t key) { set(key, deletedRow()); }

  /** Keys with a change. */
  size_t size() const { return size_; }
  size_t bytes() const { return entries_.size() * sizeof(Entry) + filter_.size() * 8; }

  static const std::byte* deletedRow() { return &kDeleted; }

  static uint64_t hash(uint64_t key) {
    uint64_t x = key ^ (key >> 31);
    x *= 0x9fb21c651e98df25u;
    return x ^ (x >> 32);
  }
  const uint64_t* filterWord(uint64_t hash) const { return &filter_[hash & filterMask_]; }
  /** False: no delta names the key. True: one may. */
  static bool mayHold(uint64_t word, uint64_t hash) {
    const uint64_t bits = bitsOf(hash);
    return (word & bits) == bits;
  }
  const Entry* home(uint64_t hash) const { return &entries_[(hash >> 16) & entryMask_]; }
  /** The row of a change, `deletedRow()`, or null where there is none. */
  const std::byte* find(uint64_t key, const Entry* from) const {
    for (size_t at = static_cast<size_t>(from - entries_.data());; at = (at + 1) & entryMask_) {
      const Entry& entry = entries_[at];
      if (entry.row == nullptr || entry.key == key) return entry.row;
    }
  }

  /** Calls `visit(key, row)` for every change, in no order. */
  template <class Visit>
  void forEach(Visit visit) const {
    for (const Entry& entry : entries_)
      if (entry.row != nullptr) visit(entry.key, entry.row);
  }

 private:
  static constexpr std::byte kDeleted{};
  static uint64_t bitsOf(uint64_t hash) {
    return uint64_t{1} << (hash >> 58) | uint64_t{1} << (hash >> 52 & 63) | uint64_t{1} << (hash >> 46 & 63) |
           uint64_t{1} << (hash >> 40 & 63);
  }

  std::vector<Entry> entries_;
  std::vector<uint64_t> filter_;
  uint64_t entryMask_;
  uint64_t filterMask_;
  size_t size_ = 0;
};

}  // namespace onnx_serving
