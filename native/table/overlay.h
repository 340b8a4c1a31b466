#pragma once

#include <cstddef>
#include <cstdint>

#include "huge_memory.h"
#include "key_hash.h"

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

  /**
   * @param keys most keys that will be set. Memory is of huge pages where the kernel has them.
   * @param hashSeed that of the snapshot, so that a lookup there and here takes one hash
   */
  Overlay(size_t keys, uint64_t hashSeed);

  /** False when there was no memory; then nothing else may be called. */
  bool isOpen() const { return entries_ != nullptr; }

  /** The newest change of a key: replaces an older one. */
  void set(uint64_t key, const std::byte* row);
  void erase(uint64_t key) { set(key, deletedRow()); }

  /** Keys with a change. */
  size_t size() const { return size_; }
  size_t bytes() const { return entryMemory_.size() + filterMemory_.size(); }

  static const std::byte* deletedRow() { return &kDeleted; }

  uint64_t hash(uint64_t key) const { return hashKey(key, hashSeed_); }
  const uint64_t* filterWord(uint64_t hash) const { return &filter_[scaleHash(hash, filterWords_)]; }
  /** False: no delta names the key. True: one may. */
  static bool mayHold(uint64_t word, uint64_t hash) {
    const uint64_t bits = bitsOf(hash);
    return (word & bits) == bits;
  }
  const Entry* home(uint64_t hash) const { return &entries_[scaleHash(hash, entryMask_ + 1)]; }
  /** The row of a change, `deletedRow()`, or null where there is none. */
  const std::byte* find(uint64_t key, const Entry* from) const {
    for (size_t at = static_cast<size_t>(from - entries_);; at = (at + 1) & entryMask_) {
      const Entry& entry = entries_[at];
      if (entry.row == nullptr || entry.key == key) return entry.row;
    }
  }

  /** Calls `visit(key, row)` for every change, in no order. */
  template <class Visit>
  void forEach(Visit visit) const {
    for (size_t at = 0; at <= entryMask_; ++at)
      if (entries_[at].row != nullptr) visit(entries_[at].key, entries_[at].row);
  }

 private:
  static constexpr std::byte kDeleted{};
  /**
   * Two bits of 64: with 16 bits a key, 2 keys of 100 that no delta names pass. More bits cost more time.
   * Taken from the middle of the hash: the word follows from its upper bits, and the lowest are no good.
   */
  static uint64_t bitsOf(uint64_t hash) {
    return uint64_t{1} << (hash >> 24 & 63) | uint64_t{1} << (hash >> 30 & 63);
  }

  uint64_t hashSeed_;
  HugeMemory entryMemory_;
  HugeMemory filterMemory_;
  Entry* entries_ = nullptr;
  uint64_t* filter_ = nullptr;
  uint64_t entryMask_ = 0;
  uint64_t filterWords_ = 0;
  size_t size_ = 0;
};

}  // namespace onnx_serving
