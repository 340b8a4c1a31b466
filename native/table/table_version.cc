#include "table_version.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "../mapped_file_guard.h"

namespace onnx_serving {
namespace {

const char* nameOf(RowType type) {
  switch (type) {
    case RowType::kF32:
      return "f32";
    case RowType::kF16:
      return "f16";
    case RowType::kInt8:
      return "int8";
    case RowType::kBytes:
      break;
  }
  return "bytes";
}

std::string describe(const ShardHeader& header) {
  return std::string(nameOf(header.rowType)) + " rows of dim " + std::to_string(header.dim) + " in " +
         std::to_string(header.shards) + " shards";
}

Result<std::vector<std::shared_ptr<ShardFile>>> openShards(const std::vector<std::string>& paths,
                                                           Residence residence, ShardKind kind,
                                                           const ShardHeader* like) {
  std::vector<std::shared_ptr<ShardFile>> shards;
  for (const std::string& path : paths) {
    Result<std::shared_ptr<ShardFile>> opened = ShardFile::open(path, residence);
    if (!opened.ok()) return opened.status();
    const ShardHeader& header = opened.value()->header();
    if (like == nullptr)
      like = &shards.emplace_back(std::move(opened.value()))->header();
    else
      shards.push_back(std::move(opened.value()));
    if (header.kind != kind) {
      return Status(code::kTableMismatch,
                    path + " is the file of a " + (kind == ShardKind::kSnapshot ? "delta" : "snapshot") +
                        ", expected one of a " + (kind == ShardKind::kSnapshot ? "snapshot" : "delta"));
    }
    if (header.rowType != like->rowType || header.dim != like->dim || header.shards != like->shards) {
      return Status(code::kTableMismatch,
                    path + " has " + describe(header) + ", expected " + describe(*like));
    }
    // Of deltas only the rows are used; where they are in the snapshot is asked with one hash for all shards.
    if (kind == ShardKind::kSnapshot && header.hashSeed != like->hashSeed) {
      return Status(code::kTableMismatch, path + " has the hash seed " + std::to_string(header.hashSeed) +
                                              ", expected " + std::to_string(like->hashSeed));
    }
    if (header.shard != shards.size() - 1) {
      return Status(code::kTableMismatch, path + " is shard " + std::to_string(header.shard) +
                                              ", expected shard " + std::to_string(shards.size() - 1));
    }
  }
  const size_t expected = like == nullptr ? 1 : like->shards;
  if (shards.size() != expected) {
    return Status(code::kTableMismatch, "a version of " + std::to_string(expected) + " shards was given " +
                                            std::to_string(shards.size()) +
                                            (paths.empty() ? "" : ": " + paths[0] + " ..."));
  }
  return shards;
}

Status damagedDelta(const ShardFile& shard) {
  return {code::kTableCorrupt, shard.path() + ": the buckets of the delta are damaged"};
}

/** Tells a file from another one that was put at its path. */
std::string identityOf(const std::string& path) {
  struct stat facts = {};
  (void)stat(path.c_str(), &facts);
  return '\n' + path + '\n' + std::to_string(facts.st_dev) + ' ' + std::to_string(facts.st_ino) + ' ' +
         std::to_string(facts.st_size) + ' ' + std::to_string(facts.st_mtime);
}

}  // namespace

Result<std::shared_ptr<const TableVersion>> TableVersion::open(const TableFiles& files, Residence residence) {
  std::shared_ptr<TableVersion> version(new TableVersion());
  version->residence_ = residence;
  auto snapshot = openShards(files.snapshot, residence, ShardKind::kSnapshot, nullptr);
  if (!snapshot.ok()) return snapshot.status();
  version->snapshot_ = std::move(snapshot.value());
  version->first_ = version->snapshot_[0]->header();
  for (const auto& shard : version->snapshot_) version->views_.push_back(shard->view());
  version->zeros_.resize(version->first_.dim);

  uint64_t changes = 0;
  for (const std::vector<std::string>& paths : files.deltas) {
    auto delta = openShards(paths, residence, ShardKind::kDelta, &version->first_);
    if (!delta.ok()) return delta.status();
    for (const auto& shard : delta.value()) changes += shard->header().rows + shard->header().deletes;
    version->deltas_.push_back(std::move(delta.value()));
  }
  if (!version->deltas_.empty()) {
    version->overlay_ = std::make_unique<Overlay>(changes, version->first_.hashSeed);
    if (!version->overlay_->isOpen()) {
      return Status(code::kOutOfMemory, "no memory for the " + std::to_string(changes) +
                                            " changes of the deltas on " + files.snapshot[0]);
    }
    for (const auto& delta : version->deltas_)
      if (Status added = version->addDelta(delta); !added.ok()) return added;
  }
  return std::shared_ptr<const TableVersion>(std::move(version));
}

Result<std::shared_ptr<const TableVersion>> TableVersion::openShared(const TableFiles& files,
                                                                     Residence residence) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const TableVersion>> open;
  std::string name = residence == Residence::kMapped ? "mapped" : "memory";
  for (const std::string& path : files.snapshot) name += identityOf(path);
  for (const auto& delta : files.deltas)
    for (const std::string& path : delta) name += identityOf(path);

  const std::lock_guard lock(mutex);
  std::erase_if(open, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = open.find(name); found != open.end())
    if (std::shared_ptr<const TableVersion> version = found->second.lock())
      // The files may be whole again, but not the mapping that saw them cut.
      if (version->requireSoundFiles().ok()) return version;
  auto opened = TableVersion::open(files, residence);
  if (opened.ok()) open[name] = opened.value();
  return opened;
}

Status TableVersion::addDelta(const std::vector<std::shared_ptr<ShardFile>>& delta) {
  for (const auto& shard : delta) {
    RowCursor cursor(*shard);
    uint64_t key;
    const std::byte* row;
    uint64_t seen = 0;
    while (cursor.next(key, row)) {
      // The overlay has room for as many keys as the header says.
      if (row == nullptr || ++seen > shard->header().rows) return damagedDelta(*shard);
      overlay_->set(key, row);
    }
    if (seen != shard->header().rows) return damagedDelta(*shard);
    for (const uint64_t deleted : shard->deletedKeys()) overlay_->erase(deleted);
  }
  return {};
}

Result<uint64_t> TableVersion::rows() const {
  uint64_t total = 0;
  for (const auto& shard : snapshot_) total += shard->header().rows;
  if (Status sound = requireSoundFiles(); !sound.ok()) return sound;
  if (overlay_ == nullptr) return total;
  // Keys of the overlay: those with a row that the snapshot lacks come on top, those deleted that it has go.
  std::vector<uint64_t> keys;
  std::vector<bool> isDeleted;
  overlay_->forEach([&](uint64_t key, const std::byte* row) {
    keys.push_back(key);
    isDeleted.push_back(row == Overlay::deletedRow());
  });
  std::vector<const std::byte*> rows(keys.size());
  GatherPlan plan = planOf(keys);
  plan.overlay = nullptr;
  plan.rows = rows.data();
  (void)run(plan);
  if (Status sound = requireSoundFiles(); !sound.ok()) return sound;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool wasThere = rows[i] != nullptr;
    if (isDeleted[i] && wasThere) --total;
    if (!isDeleted[i] && !wasThere) ++total;
  }
  return total;
}

GatherPlan TableVersion::planOf(std::span<const uint64_t> keys) const {
  GatherPlan plan;
  plan.shards = views_.data();
  plan.shardCount = views_.size();
  plan.bucketBytes = first_.bucketBytes();
  plan.payloadBytes = first_.payloadBytes();
  plan.rowBytes = first_.rowBytes();
  plan.rowType = first_.rowType;
  plan.placement = first_.placement;
  plan.dim = first_.dim;
  plan.overlay = overlay_.get();
  plan.keys = keys.data();
  plan.keyCount = keys.size();
  return plan;
}

GatherCount TableVersion::run(GatherPlan& plan) const {
  if (residence_ == Residence::kInMemory) return bestGatherKernels().gather(plan);
  const DiskWatch::Turn turn(disk_, plan.keyCount);
  if (turn.readsAhead()) plan.readAhead = readAhead;
  return bestGatherKernels().gather(plan);
}

Result<size_t> TableVersion::gather(const GatherRequest& request) const {
  if (rowType() == RowType::kBytes)
    return Status(code::kTableMismatch, "rows of bytes cannot be gathered as floats");
  const bool hasBags = request.combiner != Combiner::kNone;
  const size_t rows = hasBags ? request.bagEnds.size() : request.keys.size();
  const bool fits = request.out.size() == rows * dim() &&
                    (request.weights.empty() || request.weights.size() == request.keys.size()) &&
                    (request.defaultRow.empty() || request.defaultRow.size() == dim()) &&
                    (request.missing.empty() || request.missing.size() >= (request.keys.size() + 7) / 8);
  if (!fits) return Status(code::kInternal, "gather: a buffer does not have the size that the keys ask for");
  if (hasBags) {
    uint64_t before = 0;
    for (size_t bag = 0; bag < request.bagEnds.size(); ++bag) {
      const uint64_t end = request.bagEnds[bag];
      if (end < before || end > request.keys.size()) {
        return Status(code::kBadBags, "bag " + std::to_string(bag) + " ends at " + std::to_string(end) +
                                          ", expected " + std::to_string(before) + " to " +
                                          std::to_string(request.keys.size()));
      }
      before = end;
    }
    if (before != request.keys.size()) {
      return Status(code::kBadBags, "the bags hold " + std::to_string(before) + " of " +
                                        std::to_string(request.keys.size()) + " keys");
    }
  }
  GatherPlan plan = planOf(request.keys);
  plan.out = request.out.data();
  plan.defaultRow = request.defaultRow.empty() ? zeros_.data() : request.defaultRow.data();
  plan.combiner = request.combiner;
  plan.bagEnds = request.bagEnds.data();
  plan.bagCount = request.bagEnds.size();
  plan.weights = request.weights.empty() ? nullptr : request.weights.data();
  plan.missing = request.missing.empty() ? nullptr : request.missing.data();
  if (rows == 0) return size_t{0};
  const GatherCount count = run(plan);
  if (Status sound = requireSoundFiles(); !sound.ok()) return sound;
  if (count.damaged > 0) {
    return Status(code::kTableCorrupt, snapshot_[0]->path() + ": " + std::to_string(count.damaged) +
                                           " rows lie outside the rows section");
  }
  return count.missing;
}

Status TableVersion::lookUp(std::span<const uint64_t> keys, std::span<const std::byte*> rows) const {
  GatherPlan plan = planOf(keys);
  plan.rows = rows.data();
  const GatherCount count = run(plan);
  if (count.damaged > 0)
    return {code::kTableCorrupt, snapshot_[0]->path() + ": a row lies outside the rows section"};
  return requireSoundFiles();
}

Result<std::span<const std::byte>> TableVersion::storedRow(const std::byte* row) const {
  if (rowType() != RowType::kBytes) return std::span<const std::byte>(row, first_.rowBytes());
  const auto endIn = [row](const std::shared_ptr<ShardFile>& shard) -> const std::byte* {
    const ShardView view = shard->view();
    const std::byte* end = view.rowData + view.rowDataBytes;
    return row >= view.rowData && row < end ? end : nullptr;
  };
  const std::byte* end = nullptr;
  for (const auto& shard : snapshot_)
    if (end == nullptr) end = endIn(shard);
  for (const auto& delta : deltas_)
    for (const auto& shard : delta)
      if (end == nullptr) end = endIn(shard);
  const RowBytes found = end == nullptr ? RowBytes{{}, true} : bytesOfRow(row, end);
  if (found.isDamaged)
    return Status(code::kTableCorrupt, snapshot_[0]->path() + ": a row's length reaches beyond the rows");
  return found.bytes;
}

Result<std::optional<std::span<const std::byte>>> TableVersion::find(uint64_t key) const {
  const std::byte* row = nullptr;
  if (Status looked = lookUp({&key, 1}, {&row, 1}); !looked.ok()) return looked;
  if (row == nullptr) return std::optional<std::span<const std::byte>>();
  Result<std::span<const std::byte>> stored = storedRow(row);
  if (!stored.ok()) return stored.status();
  return std::optional(stored.value());
}

Status TableVersion::requireSoundFiles() const {
  const ShardFile* lost = lost_.load(std::memory_order_acquire);
  const uint64_t faults = MappedFileGuard::faults();
  if (lost == nullptr && faults == knownFaults_.load(std::memory_order_acquire)) return {};
  const auto look = [&lost](const std::vector<std::shared_ptr<ShardFile>>& shards) {
    for (const auto& shard : shards)
      if (lost == nullptr && shard->hasLostPages()) lost = shard.get();
  };
  look(snapshot_);
  for (const auto& delta : deltas_) look(delta);
  if (lost == nullptr) {
    knownFaults_.store(faults, std::memory_order_release);
    return {};
  }
  lost_.store(lost, std::memory_order_release);
  return {code::kTableCorrupt,
          lost->path() + " was truncated while it was mapped; its rows cannot be trusted"};
}

}  // namespace onnx_serving
