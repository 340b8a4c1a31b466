// Included once by each gather_<instruction set>.cc, which defines the type `Simd` before: the loops below
// are compiled for its instruction set. Deliberately without `#pragma once` and without library templates,
// whose instances the linker would share with code for lesser machines.

namespace onnx_serving {
namespace {

// Keys go through four passes, a chunk at a time:
//   locate   the keys' buckets
//   probe    the slots, each in a bucket whose line of keys was asked for some keys before. What is not
//            there, with the bucket full, asks for its other bucket; what a delta may hold, for its change
//   resolve  those that asked
//   emit     rows into the output, each asked for some rows before
// What matters is how many lines are under way while the processor waits for one, and it sees only some
// hundred instructions ahead. So whatever waits for memory does little else: addresses are worked out in a
// pass before, and each pass fetches ahead, key by key, instead of many lines at once. The distances were
// chosen by measurement (DESIGN.md, "Layout of tables").
constexpr size_t kChunk = 512;
constexpr size_t kKeysAhead = 16;
constexpr size_t kNarrowRowsAhead = 16;
constexpr size_t kWideRowsAhead = 8;
constexpr size_t kMostAhead = 16;

inline void fetch(const void* address) { __builtin_prefetch(address, 0, 3); }

/** A key that its home bucket did not answer. */
struct Pending {
  size_t index;
  /** Where a change of the key would be; null for one that no delta names. */
  const Overlay::Entry* entry;
  /** The other bucket; null for a key with an entry, whose home bucket was not looked at. */
  const std::byte* other;
};

inline bool isFull(const std::byte* bucket) {
  uint64_t first;
  uint64_t last;
  __builtin_memcpy(&first, bucket, 8);
  __builtin_memcpy(&last, bucket + 56, 8);
  return first != last;
}

/** What takes rows, a chunk at a time; null for a missing key's row. */
struct Emitter {
  /** `rows` holds some more addresses behind `count`, to be fetched like the others. */
  void (*emit)(Emitter& self, const std::byte* const* rows, size_t first, size_t count);
  void (*finish)(Emitter& self);
  const GatherPlan& plan;
  size_t bag = 0;
  /** Sum of the weights (mean), or of their squares (sqrtn), in the bag. */
  float norm = 0;
};

#define ONNX_SERVING_INLINE __attribute__((always_inline))

template <bool kSharded, bool kBehind, bool kOverlay>
GatherCount lookUp(const GatherPlan& plan, Emitter& emitter) {
  const uint64_t bucketBytes = plan.bucketBytes;
  const uint64_t payloadBytes = plan.payloadBytes;
  const uint64_t rowBytes = plan.rowBytes;
  const ShardView* const shards = plan.shards;
  const uint64_t shardCount = plan.shardCount;
  const ShardView only = shards[0];
  const Overlay* const overlay = plan.overlay;

  const uint64_t* keys = plan.keys;
  size_t base = 0;
  uint64_t hashes[kChunk];
  /** First the buckets of the keys, then their rows. */
  const std::byte* places[kChunk + kMostAhead];
  Pending pending[kChunk];
  size_t pendingCount = 0;
  GatherCount count;

  const auto shardOfKey = [&](uint64_t key) ONNX_SERVING_INLINE -> const ShardView& {
    return kSharded ? shards[key % shardCount] : only;
  };
  const auto otherBucket = [&](size_t index) ONNX_SERVING_INLINE {
    const ShardView& shard = shardOfKey(keys[index]);
    return shard.buckets + shard.grid.other(hashes[index]) * bucketBytes;
  };
  const auto fetchBucket = [&](const std::byte* bucket) ONNX_SERVING_INLINE {
    fetch(bucket);
    if constexpr (kBehind) fetch(bucket + 64);
  };
  const auto miss = [&](size_t index) ONNX_SERVING_INLINE {
    places[index] = nullptr;
    ++count.missing;
    const size_t bit = base + index;
    if (plan.missing != nullptr) plan.missing[bit / 8] |= static_cast<uint8_t>(1u << (bit % 8));
  };
  /** Takes the row of the slot that `found` names. */
  const auto take = [&](size_t index, const std::byte* bucket, unsigned found) ONNX_SERVING_INLINE {
    const std::byte* row = bucket + 64 + static_cast<uint64_t>(__builtin_ctz(found)) * payloadBytes;
    if constexpr (kBehind) {
      const ShardView& shard = shardOfKey(keys[index]);
      uint64_t offset;
      __builtin_memcpy(&offset, row, 8);
      // A row of bytes has at least its length.
      const uint64_t least = rowBytes == 0 ? 8 : rowBytes;
      if (offset > shard.rowDataBytes || shard.rowDataBytes - offset < least) {
        ++count.damaged;
        miss(index);
        return;
      }
      row = shard.rowData + offset;
    }
    places[index] = row;
  };
  const auto probe = [&](size_t index) ONNX_SERVING_INLINE {
    if constexpr (kOverlay) {
      const uint64_t hash = hashes[index];
      if (__builtin_expect(Overlay::mayHold(*overlay->filterWord(hash), hash), 0)) {
        const Overlay::Entry* entry = overlay->home(hash);
        fetch(entry);
        pending[pendingCount++] = {index, entry, nullptr};
        return;
      }
    }
    const std::byte* bucket = places[index];
    const unsigned found = Simd::find(bucket, keys[index]);
    if (__builtin_expect(found != 0, 1)) {
      take(index, bucket, found);
    } else if (isFull(bucket)) {
      const std::byte* other = otherBucket(index);
      fetchBucket(other);
      pending[pendingCount++] = {index, nullptr, other};
    } else {
      miss(index);
    }
  };
  const auto resolve = [&](const Pending& item) ONNX_SERVING_INLINE {
    const size_t index = item.index;
    const uint64_t key = keys[index];
    const std::byte* other = item.other;
    if constexpr (kOverlay) {
      if (item.entry != nullptr) {
        if (const std::byte* row = overlay->find(key, item.entry); row != nullptr) {
          if (row == Overlay::deletedRow())
            miss(index);
          else
            places[index] = row;
          return;
        }
        // The filter was wrong.
        const std::byte* home = places[index];
        if (const unsigned found = Simd::find(home, key); found != 0) {
          take(index, home, found);
          return;
        }
        if (!isFull(home)) {
          miss(index);
          return;
        }
        other = otherBucket(index);
      }
    }
    if (const unsigned found = Simd::find(other, key); found != 0) {
      take(index, other, found);
    } else {
      miss(index);
    }
  };

  for (; base < plan.keyCount; base += kChunk, keys += kChunk) {
    const size_t size = plan.keyCount - base < kChunk ? plan.keyCount - base : kChunk;
    for (size_t i = 0; i < size; ++i) {
      const ShardView& shard = shardOfKey(keys[i]);
      const uint64_t hash = hashKey(keys[i], shard.hashSeed);
      hashes[i] = hash;
      places[i] = shard.buckets + shard.grid.home(hash) * bucketBytes;
      if constexpr (kOverlay) fetch(overlay->filterWord(hash));
    }
    if (plan.readAhead != nullptr) plan.readAhead(places, size, bucketBytes);
    for (size_t i = 0; i < kKeysAhead; ++i) places[size + i] = places[size - 1];
    for (size_t i = 0; i < kKeysAhead; ++i) fetchBucket(places[i]);
    for (size_t i = 0; i < size; ++i) {
      fetchBucket(places[i + kKeysAhead]);
      probe(i);
    }
    if (plan.readAhead != nullptr) {
      const std::byte* others[kChunk];
      for (size_t i = 0; i < pendingCount; ++i) others[i] = pending[i].other;
      plan.readAhead(others, pendingCount, bucketBytes);
    }
    for (size_t i = 0; i < pendingCount; ++i) resolve(pending[i]);
    pendingCount = 0;
    if (kBehind && plan.readAhead != nullptr) plan.readAhead(places, size, rowBytes == 0 ? 8 : rowBytes);
    for (size_t i = 0; i < kMostAhead; ++i) places[size + i] = places[size - 1];
    emitter.emit(emitter, places, base, size);
  }
  if (emitter.finish != nullptr) emitter.finish(emitter);
  return count;
}

/** Asks for the lines of rows of one width. @tparam kBytes 0 for those of the plan. */
template <size_t kBytes>
struct RowFetcher {
  size_t bytes;

  /** Rows of these widths, which begin on a multiple of them, or of a line, end on no further line. */
  static constexpr bool kEndsOnLine = kBytes != 0 && (kBytes % 64 == 0 || 64 % kBytes == 0);
  static constexpr size_t kAhead = kBytes != 0 && kBytes <= 128 ? kNarrowRowsAhead : kWideRowsAhead;
  static_assert(kAhead <= kMostAhead);

  explicit RowFetcher(const GatherPlan& plan) : bytes(kBytes != 0 ? kBytes : plan.rowBytes) {}

  ONNX_SERVING_INLINE void fetchRow(const std::byte* row) const {
    const size_t count = kBytes != 0 ? kBytes : bytes;
    // A number, because a missing row is null, which no offset may be added to; fetching there does nothing.
    const auto begin = reinterpret_cast<uintptr_t>(row);
    for (size_t at = 0; at < count; at += 64) fetch(reinterpret_cast<const void*>(begin + at));
    if constexpr (!kEndsOnLine) fetch(reinterpret_cast<const void*>(begin + count - 1));
  }
  ONNX_SERVING_INLINE void begin(const std::byte* const* rows) const {
    for (size_t i = 0; i < kAhead; ++i) fetchRow(rows[i]);
  }
};

/** Bytes of a stored row of `kDim` elements; 0 for none. */
template <RowType kType, size_t kDim>
constexpr size_t storedBytes() {
  if constexpr (kDim == 0) return 0;
  return kType == RowType::kF32 ? 4 * kDim : kType == RowType::kF16 ? 2 * kDim : 8 + kDim;
}

/** @tparam kDim elements a row, 0 for those of the plan. */
template <RowType kType, size_t kDim>
void emitRows(Emitter& self, const std::byte* const* rows, size_t first, size_t count) {
  using Fetcher = RowFetcher<storedBytes<kType, kDim>()>;
  const Fetcher fetcher(self.plan);
  const size_t dim = kDim != 0 ? kDim : self.plan.dim;
  const float* const defaultRow = self.plan.defaultRow;
  float* out = self.plan.out + first * dim;
  fetcher.begin(rows);
  for (size_t i = 0; i < count; ++i, out += dim) {
    fetcher.fetchRow(rows[i + Fetcher::kAhead]);
    if (__builtin_expect(rows[i] == nullptr, 0)) {
      __builtin_memcpy(out, defaultRow, dim * sizeof(float));
    } else {
      Simd::template copy<kType>(out, rows[i], dim);
    }
  }
}

void closeBag(Emitter& self) {
  const GatherPlan& plan = self.plan;
  if (plan.combiner != Combiner::kSum && self.norm != 0.0f) {
    const float by = plan.combiner == Combiner::kMean ? self.norm : __builtin_sqrtf(self.norm);
    float* out = plan.out + self.bag * plan.dim;
    for (size_t i = 0; i < plan.dim; ++i) out[i] /= by;
  }
  self.norm = 0;
  ++self.bag;
}

/** Adds rows up bag by bag, in the order of their keys. */
template <RowType kType>
void emitBags(Emitter& self, const std::byte* const* rows, size_t first, size_t count) {
  using Fetcher = RowFetcher<0>;
  const GatherPlan& plan = self.plan;
  const Fetcher fetcher(plan);
  const size_t dim = plan.dim;
  fetcher.begin(rows);
  for (size_t i = 0; i < count; ++i) {
    fetcher.fetchRow(rows[i + Fetcher::kAhead]);
    const size_t index = first + i;
    while (plan.bagEnds[self.bag] <= index) closeBag(self);
    float* out = plan.out + self.bag * dim;
    const float weight = plan.weights == nullptr ? 1.0f : plan.weights[index];
    self.norm += plan.combiner == Combiner::kSqrtN ? weight * weight : weight;
    if (rows[i] == nullptr) {
      Simd::template add<RowType::kF32>(out, reinterpret_cast<const std::byte*>(plan.defaultRow), dim,
                                        weight);
    } else {
      Simd::template add<kType>(out, rows[i], dim, weight);
    }
  }
}

void finishBags(Emitter& self) {
  while (self.bag < self.plan.bagCount) closeBag(self);
}

void emitAddresses(Emitter& self, const std::byte* const* rows, size_t first, size_t count) {
  for (size_t i = 0; i < count; ++i) self.plan.rows[first + i] = rows[i];
}

template <RowType kType>
Emitter emitterOf(const GatherPlan& plan) {
  if (plan.combiner != Combiner::kNone) {
    __builtin_memset(plan.out, 0, plan.bagCount * plan.dim * sizeof(float));
    return {emitBags<kType>, finishBags, plan};
  }
  switch (plan.dim) {
    case 8:
      return {emitRows<kType, 8>, nullptr, plan};
    case 16:
      return {emitRows<kType, 16>, nullptr, plan};
    case 32:
      return {emitRows<kType, 32>, nullptr, plan};
    case 64:
      return {emitRows<kType, 64>, nullptr, plan};
    default:
      return {emitRows<kType, 0>, nullptr, plan};
  }
}

Emitter emitterFor(const GatherPlan& plan) {
  if (plan.out == nullptr) return {emitAddresses, nullptr, plan};
  switch (plan.rowType) {
    case RowType::kF16:
      return emitterOf<RowType::kF16>(plan);
    case RowType::kInt8:
      return emitterOf<RowType::kInt8>(plan);
    // Rows of bytes are only looked up.
    case RowType::kBytes:
    case RowType::kF32:
      break;
  }
  return emitterOf<RowType::kF32>(plan);
}

template <bool kSharded, bool kOverlay>
GatherCount lookUpIn(const GatherPlan& plan, Emitter& emitter) {
  return plan.placement == Placement::kBehind ? lookUp<kSharded, true, kOverlay>(plan, emitter)
                                              : lookUp<kSharded, false, kOverlay>(plan, emitter);
}

GatherCount gatherRows(const GatherPlan& plan) {
  Emitter emitter = emitterFor(plan);
  if (plan.shardCount == 1)
    return plan.overlay == nullptr ? lookUpIn<false, false>(plan, emitter)
                                   : lookUpIn<false, true>(plan, emitter);
  return plan.overlay == nullptr ? lookUpIn<true, false>(plan, emitter) : lookUpIn<true, true>(plan, emitter);
}

#undef ONNX_SERVING_INLINE

}  // namespace
}  // namespace onnx_serving
