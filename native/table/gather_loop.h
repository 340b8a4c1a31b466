// Included once by each gather_<instruction set>.cc, which defines the type `Simd` before: the loops below
// are compiled for its instruction set. Deliberately without `#pragma once` and without library templates,
// whose instances the linker would share with code for lesser machines.

namespace onnx_serving {
namespace {

// Keys go through four stages, a tile of eight at a time and some tiles apart, so that the cache lines that a
// stage asks for are there when the next one wants them:
//   hash     the key's bucket; its line of keys is fetched
//   probe    the slot; its row is fetched. Not there and the bucket full: the other bucket is fetched
//   resolve  the keys (some 9 of 100) that need their other bucket, or that a delta may hold
//   emit     rows into the output
// Within a step the stages run last to first, so that lines which are wanted now are not asked for behind new
// ones. The distances were chosen by measurement (DESIGN.md, "Layout of tables"): wide rows fill the
// processor's line buffers sooner and want fewer keys in flight.
constexpr size_t kTile = 8;
constexpr size_t kRing = 256;
constexpr size_t kRingMask = kRing - 1;
constexpr size_t kProbeLag = 8;
constexpr size_t kNarrowRowLag = 6;
constexpr size_t kWideRowLag = 2;
static_assert((kProbeLag + 2 * kNarrowRowLag + 1) * kTile <= kRing,
              "a place in the ring for every key in flight");

inline void fetch(const void* address) { __builtin_prefetch(address, 0, 3); }

struct Pending {
  size_t index;
  /** The key's other bucket in the snapshot; null for a key that a delta may hold. */
  const std::byte* bucket;
  const Overlay::Entry* entry;
};

inline bool isFull(const std::byte* bucket) {
  uint64_t first;
  uint64_t last;
  __builtin_memcpy(&first, bucket, 8);
  __builtin_memcpy(&last, bucket + 56, 8);
  return first != last;
}

/** What takes rows, a tile at a time; null for a missing key's row. */
struct Emitter {
  void (*emit)(Emitter& self, const std::byte* const* rows, size_t first, size_t count);
  void (*finish)(Emitter& self);
  const GatherPlan& plan;
  size_t bag = 0;
  /** Sum of the weights (mean), or of their squares (sqrtn), in the bag. */
  float norm = 0;
};

#define ONNX_SERVING_INLINE __attribute__((always_inline))

/** @tparam kLines cache lines of a row that begins on a line, 0 for rows that need not, or have more than 4.
 */
template <size_t kLines, bool kSharded, bool kBehind, bool kOverlay>
GatherCount lookUp(const GatherPlan& plan, Emitter& emitter) {
  const uint64_t* const keys = plan.keys;
  const size_t n = plan.keyCount;
  const uint64_t bucketBytes = plan.bucketBytes;
  const uint64_t payloadBytes = plan.payloadBytes;
  const uint64_t rowBytes = plan.rowBytes;
  const ShardView* const shards = plan.shards;
  const uint64_t shardCount = plan.shardCount;
  const ShardView only = shards[0];
  const Overlay* const overlay = plan.overlay;
  const size_t rowLines = kLines != 0 ? kLines : (rowBytes + 63) / 64;

  const std::byte* rows[kRing];
  Pending pending[kRing];
  size_t pendingHead = 0;
  size_t pendingTail = 0;
  GatherCount count;

  const auto bucketOf = [&](uint64_t key, bool other) ONNX_SERVING_INLINE {
    const ShardView& shard = kSharded ? shards[key % shardCount] : only;
    const uint64_t h = hashKey(key, shard.hashSeed);
    return shard.buckets + (other ? shard.grid.other(h) : shard.grid.home(h)) * bucketBytes;
  };
  const auto fetchBucket = [&](const std::byte* bucket) ONNX_SERVING_INLINE {
    fetch(bucket);
    if constexpr (kBehind) fetch(bucket + 64);
  };
  const auto fetchRow = [&](const std::byte* row) ONNX_SERVING_INLINE {
    for (size_t line = 0; line < rowLines; ++line) fetch(row + line * 64);
    if constexpr (kLines == 0) fetch(row + (rowBytes == 0 ? 0 : rowBytes - 1));
  };
  const auto miss = [&](size_t index) ONNX_SERVING_INLINE {
    rows[index & kRingMask] = nullptr;
    ++count.missing;
    if (plan.missing != nullptr) plan.missing[index / 8] |= static_cast<uint8_t>(1u << (index % 8));
  };
  /** Takes the row of the slot that `found` names. */
  const auto take = [&](size_t index, const std::byte* bucket, unsigned found) ONNX_SERVING_INLINE {
    const std::byte* row = bucket + 64 + static_cast<uint64_t>(__builtin_ctz(found)) * payloadBytes;
    if constexpr (kBehind) {
      const ShardView& shard = kSharded ? shards[keys[index] % shardCount] : only;
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
    fetchRow(row);
    rows[index & kRingMask] = row;
  };
  const auto hash = [&](size_t index) ONNX_SERVING_INLINE {
    const std::byte* bucket = bucketOf(keys[index], false);
    fetchBucket(bucket);
    rows[index & kRingMask] = bucket;
  };
  const auto probe = [&](size_t index) ONNX_SERVING_INLINE {
    const uint64_t key = keys[index];
    if constexpr (kOverlay) {
      const uint64_t h = Overlay::hash(key);
      if (__builtin_expect(Overlay::mayHold(*overlay->filterWord(h), h), 0)) {
        const Overlay::Entry* entry = overlay->home(h);
        fetch(entry);
        pending[pendingTail++ & kRingMask] = {index, nullptr, entry};
        return;
      }
    }
    const std::byte* bucket = rows[index & kRingMask];
    const unsigned found = Simd::find(bucket, key);
    if (__builtin_expect(found != 0, 1)) {
      take(index, bucket, found);
    } else if (isFull(bucket)) {
      const std::byte* other = bucketOf(key, true);
      fetchBucket(other);
      pending[pendingTail++ & kRingMask] = {index, other, nullptr};
    } else {
      miss(index);
    }
  };
  const auto resolve = [&](const Pending& item) ONNX_SERVING_INLINE {
    const uint64_t key = keys[item.index];
    const std::byte* other = item.bucket;
    if constexpr (kOverlay) {
      if (other == nullptr) {
        const std::byte* row = overlay->find(key, item.entry);
        if (row == Overlay::deletedRow()) {
          miss(item.index);
          return;
        }
        if (row != nullptr) {
          fetchRow(row);
          rows[item.index & kRingMask] = row;
          return;
        }
        // The filter was wrong. `hash` fetched the home bucket.
        const std::byte* home = rows[item.index & kRingMask];
        if (const unsigned found = Simd::find(home, key); found != 0) {
          take(item.index, home, found);
          return;
        }
        if (!isFull(home)) {
          miss(item.index);
          return;
        }
        other = bucketOf(key, true);
      }
    }
    if (const unsigned found = Simd::find(other, key); found != 0) {
      take(item.index, other, found);
    } else {
      miss(item.index);
    }
  };
  const auto fetchFilter = [&](size_t index) ONNX_SERVING_INLINE {
    if constexpr (kOverlay) fetch(overlay->filterWord(Overlay::hash(keys[index])));
  };

  const size_t tiles = (n + kTile - 1) / kTile;
  const size_t rowLag = rowLines <= 2 ? kNarrowRowLag : kWideRowLag;
  const size_t resolveLag = kProbeLag + rowLag;
  const size_t emitLag = resolveLag + rowLag;
  for (size_t step = 0; step < tiles + emitLag; ++step) {
    if (step >= emitLag) {
      const size_t first = (step - emitLag) * kTile;
      emitter.emit(emitter, &rows[first & kRingMask], first, n - first < kTile ? n - first : kTile);
    }
    if (step >= resolveLag) {
      const size_t end = (step - resolveLag + 1) * kTile;
      while (pendingHead != pendingTail && pending[pendingHead & kRingMask].index < end)
        resolve(pending[pendingHead++ & kRingMask]);
    }
    if (step >= kProbeLag && step - kProbeLag < tiles) {
      const size_t first = (step - kProbeLag) * kTile;
      if (n - first >= kTile) {
        for (size_t i = 0; i < kTile; ++i) probe(first + i);
      } else {
        for (size_t i = first; i < n; ++i) probe(i);
      }
    }
    if (step < tiles) {
      const size_t first = step * kTile;
      if (n - first >= kTile) {
        for (size_t i = 0; i < kTile; ++i) hash(first + i);
        for (size_t i = 0; i < kTile; ++i) fetchFilter(first + i);
      } else {
        for (size_t i = first; i < n; ++i) hash(i);
        for (size_t i = first; i < n; ++i) fetchFilter(i);
      }
    }
  }
  if (emitter.finish != nullptr) emitter.finish(emitter);
  return count;
}

/** @tparam kDim elements a row, 0 for those of the plan. */
template <RowType kType, size_t kDim>
void emitRows(Emitter& self, const std::byte* const* rows, size_t first, size_t count) {
  const size_t dim = kDim != 0 ? kDim : self.plan.dim;
  const float* const defaultRow = self.plan.defaultRow;
  float* out = self.plan.out + first * dim;
  const auto one = [&](const std::byte* row) ONNX_SERVING_INLINE {
    if (__builtin_expect(row == nullptr, 0)) {
      __builtin_memcpy(out, defaultRow, dim * sizeof(float));
    } else {
      Simd::template copy<kType>(out, row, dim);
    }
    out += dim;
  };
  if (count == kTile) {
    for (size_t i = 0; i < kTile; ++i) one(rows[i]);
  } else {
    for (size_t i = 0; i < count; ++i) one(rows[i]);
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
  const GatherPlan& plan = self.plan;
  const size_t dim = plan.dim;
  for (size_t i = 0; i < count; ++i) {
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
  if (plan.placement == Placement::kBehind) return lookUp<0, kSharded, true, kOverlay>(plan, emitter);
  switch (plan.rowBytes) {
    case 64:
      return lookUp<1, kSharded, false, kOverlay>(plan, emitter);
    case 128:
      return lookUp<2, kSharded, false, kOverlay>(plan, emitter);
    case 256:
      return lookUp<4, kSharded, false, kOverlay>(plan, emitter);
    default:
      return lookUp<0, kSharded, false, kOverlay>(plan, emitter);
  }
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
