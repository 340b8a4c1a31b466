#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gather_plan.h"
#include "overlay.h"
#include "read_ahead.h"
#include "shard_file.h"

namespace onnx_serving {

/** The files of a version: its snapshot and the deltas on top, oldest first; of each the shards in order. */
struct TableFiles {
  std::vector<std::string> snapshot;
  std::vector<std::vector<std::string>> deltas;
};

/** What to gather. Everything belongs to the caller and stays as it is during the call. */
struct GatherRequest {
  std::span<const uint64_t> keys;
  Combiner combiner = Combiner::kNone;
  /** Where each bag ends; not descending, the last one keys.size(). Only with a combiner. */
  std::span<const uint64_t> bagEnds;
  /** As many as keys, or none. */
  std::span<const float> weights;
  /** (keys, or bags) x dim floats. */
  std::span<float> out;
  /** The row of a missing key, dim floats; empty for zeros. */
  std::span<const float> defaultRow;
  /** (keys + 7) / 8 bytes that are zero; receives a bit for each missing key. May be empty. */
  std::span<uint8_t> missing;
};

/**
 * A version of a table, open for gathers from any thread: a snapshot of one or more shards, overlaid by
 * deltas. Immutable.
 */
class TableVersion {
 public:
  /**
   * Opens all files. They must be of one table: one row type, dim and number of shards, each shard once.
   *
   * @return the Status of the file that cannot be opened, or SRV_TABLE_MISMATCH
   */
  static Result<std::shared_ptr<const TableVersion>> open(const TableFiles& files, Residence residence);

  /**
   * `open`, but one object for all callers of this process that name the same files in the same residence
   * while any of them holds it.
   */
  static Result<std::shared_ptr<const TableVersion>> openShared(const TableFiles& files, Residence residence);

  RowType rowType() const { return first_.rowType; }
  /** 0 for rows of bytes. */
  uint32_t dim() const { return first_.dim; }
  uint32_t shards() const { return first_.shards; }
  /** Keys that have a row. Counts the overlay's keys in the snapshot anew: not for a hot path. */
  Result<uint64_t> rows() const;
  /** Memory that is this process's own: the overlay. */
  uint64_t overlayBytes() const { return overlay_ == nullptr ? 0 : overlay_->bytes(); }

  /**
   * Gathers rows as floats. On failure `out` holds anything.
   *
   * @return how many keys were missing; SRV_BAD_BAGS for bags that descend or overrun, SRV_TABLE_MISMATCH for
   *   rows of bytes, SRV_INTERNAL for an output of the wrong size, SRV_TABLE_CORRUPT when a file is damaged
   * or was truncated meanwhile
   */
  Result<size_t> gather(const GatherRequest& request) const;

  /** The stored bytes of one row (for rows of bytes without the length); nothing for a missing key. */
  Result<std::optional<std::span<const std::byte>>> find(uint64_t key) const;

  /** Stored rows of many keys: `rows` receives addresses, null for missing ones. */
  Status lookUp(std::span<const uint64_t> keys, std::span<const std::byte*> rows) const;
  /** The stored bytes of the row at an address that `lookUp` or a cursor gave. */
  Result<std::span<const std::byte>> storedRow(const std::byte* row) const;

  const std::vector<std::shared_ptr<ShardFile>>& snapshot() const { return snapshot_; }
  const std::vector<std::vector<std::shared_ptr<ShardFile>>>& deltas() const { return deltas_; }
  /** Null without deltas. */
  const Overlay* overlay() const { return overlay_.get(); }
  /** SRV_TABLE_CORRUPT from the moment on that a mapped file has lost pages; for whoever reads rows himself.
   */
  Status requireSoundFiles() const;

 private:
  TableVersion() = default;
  Status addDelta(const std::vector<std::shared_ptr<ShardFile>>& delta);
  GatherPlan planOf(std::span<const uint64_t> keys) const;
  GatherCount run(GatherPlan& plan) const;

  ShardHeader first_;
  std::vector<std::shared_ptr<ShardFile>> snapshot_;
  std::vector<std::vector<std::shared_ptr<ShardFile>>> deltas_;
  std::vector<ShardView> views_;
  std::unique_ptr<Overlay> overlay_;
  std::vector<float> zeros_;
  Residence residence_ = Residence::kMapped;
  mutable DiskWatch disk_;
  /** Replacements by the guard that were looked at. */
  mutable std::atomic<uint64_t> knownFaults_{0};
  /** The file that lost pages: they stay zeros, so it stays lost. */
  mutable std::atomic<const ShardFile*> lost_{nullptr};
};

}  // namespace onnx_serving
