#include "table_scan.h"

#include <algorithm>
#include <cstring>

namespace onnx_serving {
namespace {

using SharedTable = std::shared_ptr<const TableVersion>;

/** Rows that are compared with the other table at once. */
constexpr size_t kBlock = 1024;

/** Key and row of a table, without those that a delta changed. */
class Walk {
 public:
  /** @param part a shard of the snapshot, or the number of shards for the changes of deltas */
  Walk(const TableVersion& table, size_t part) : table_(table) {
    if (part < table.snapshot().size()) {
      shard_ = table.snapshot()[part].get();
      cursor_ = std::make_unique<RowCursor>(*shard_);
    } else if (table.overlay() != nullptr) {
      table.overlay()->forEach([this](uint64_t key, const std::byte* row) {
        if (row != Overlay::deletedRow()) changes_.push_back({key, row});
      });
    }
  }

  /** SRV_TABLE_CORRUPT when a shard was found to hold fewer or more keys than its header says; at the end. */
  Status requireAll() const {
    if (cursor_ == nullptr || seen_ == shard_->header().rows) return {};
    return {code::kTableCorrupt, shard_->path() + ": the buckets hold " + std::to_string(seen_) +
                                     " rows, the header says " + std::to_string(shard_->header().rows)};
  }

  bool next(uint64_t& key, const std::byte*& row) {
    if (cursor_ == nullptr) {
      if (at_ == changes_.size()) return false;
      key = changes_[at_].key;
      row = changes_[at_].row;
      ++at_;
      return true;
    }
    while (cursor_->next(key, row)) {
      ++seen_;
      if (!isChanged(key)) return true;
    }
    return false;
  }

 private:
  bool isChanged(uint64_t key) const {
    const Overlay* overlay = table_.overlay();
    if (overlay == nullptr) return false;
    const uint64_t hash = overlay->hash(key);
    return Overlay::mayHold(*overlay->filterWord(hash), hash) &&
           overlay->find(key, overlay->home(hash)) != nullptr;
  }

  const TableVersion& table_;
  const ShardFile* shard_ = nullptr;
  std::unique_ptr<RowCursor> cursor_;
  uint64_t seen_ = 0;
  std::vector<Overlay::Entry> changes_;
  size_t at_ = 0;
};

class ScanSource : public RowSource {
 public:
  ScanSource(SharedTable table, size_t part, ScanOf what, SharedTable other)
      : table_(std::move(table)), walk_(*table_, part), what_(what), other_(std::move(other)) {}

 protected:
  Status append(RowBatch& out, const RowLimit& limit) override {
    bool hasMore = true;
    while (hasMore && !limit.isReached(out)) {
      keys_.clear();
      rows_.clear();
      uint64_t key;
      const std::byte* row;
      const size_t wanted = std::min(kBlock, limit.rows - out.rows());
      while (keys_.size() < wanted && (hasMore = walk_.next(key, row))) {
        if (row == nullptr) {
          return {code::kTableCorrupt, table_->snapshot()[0]->path() + ": the row of key " +
                                           std::to_string(key) + " lies outside the rows section"};
        }
        keys_.push_back(key);
        rows_.push_back(row);
      }
      if (Status taken = takeBlock(out); !taken.ok()) return taken;
      // What is folded into other files must not be the zeros of a file that was cut.
      if (Status sound = table_->requireSoundFiles(); !sound.ok()) return sound;
    }
    return hasMore ? Status() : walk_.requireAll();
  }

 private:
  Status takeBlock(RowBatch& out) {
    if (what_ != ScanOf::kAll) {
      others_.resize(keys_.size());
      if (Status looked = other_->lookUp(keys_, others_); !looked.ok()) return looked;
    }
    for (size_t i = 0; i < keys_.size(); ++i) {
      Result<std::span<const std::byte>> own = table_->storedRow(rows_[i]);
      if (!own.ok()) return own.status();
      if (what_ == ScanOf::kAbsent && others_[i] != nullptr) continue;
      if (what_ == ScanOf::kChanged && others_[i] != nullptr) {
        Result<std::span<const std::byte>> theirs = other_->storedRow(others_[i]);
        if (!theirs.ok()) return theirs.status();
        if (std::ranges::equal(own.value(), theirs.value())) continue;
      }
      out.append(keys_[i], own.value());
    }
    return {};
  }

  SharedTable table_;
  Walk walk_;
  ScanOf what_;
  SharedTable other_;
  std::vector<uint64_t> keys_;
  std::vector<const std::byte*> rows_;
  std::vector<const std::byte*> others_;
};

}  // namespace

std::vector<RowInput> scanInputs(SharedTable table, ScanOf what, SharedTable other, bool areDeletes) {
  std::vector<RowInput> inputs;
  const size_t shards = table->snapshot().size();
  for (size_t part = 0; part <= shards; ++part) {
    RowInput input;
    input.name =
        part < shards ? table->snapshot()[part]->path() : "the deltas on " + table->snapshot()[0]->path();
    input.open = [table, part, what, other]() -> Result<std::unique_ptr<RowSource>> {
      return std::unique_ptr<RowSource>(std::make_unique<ScanSource>(table, part, what, other));
    };
    input.bytes = part < shards ? table->snapshot()[part]->header().fileBytes : table->overlayBytes();
    input.form = ValueForm::kStored;
    input.isDelete = areDeletes;
    inputs.push_back(std::move(input));
  }
  return inputs;
}

Result<TableDifference> compareTables(const SharedTable& from, const SharedTable& to) {
  const auto count = [](const SharedTable& table, ScanOf what, const SharedTable& other) -> Result<uint64_t> {
    uint64_t total = 0;
    RowBatch batch;
    for (const RowInput& input : scanInputs(table, what, other, false)) {
      Result<std::unique_ptr<RowSource>> source = input.open();
      if (!source.ok()) return source.status();
      for (;;) {
        batch.clear();
        Result<size_t> rows = source.value()->read(batch, kBlock);
        if (!rows.ok()) return rows.status();
        if (rows.value() == 0) break;
        total += rows.value();
      }
    }
    return total;
  };
  Result<uint64_t> added = count(to, ScanOf::kAbsent, from);
  if (!added.ok()) return added.status();
  Result<uint64_t> removed = count(from, ScanOf::kAbsent, to);
  if (!removed.ok()) return removed.status();
  Result<uint64_t> changed = count(to, ScanOf::kChanged, from);
  if (!changed.ok()) return changed.status();
  // A scan of what changed gives new keys too.
  return TableDifference{added.value(), removed.value(), changed.value() - added.value()};
}

}  // namespace onnx_serving
