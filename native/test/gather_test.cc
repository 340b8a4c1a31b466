#include <cmath>
#include <cstring>
#include <random>
#include <string_view>

#include "../float16.h"
#include "../table/gather_plan.h"
#include "../table/read_ahead.h"
#include "check.h"
#include "table_files.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

std::vector<float> randomRow(uint32_t dim, std::mt19937_64& random) {
  std::vector<float> row(dim);
  for (float& value : row) value = std::uniform_real_distribution<float>(-3, 3)(random);
  return row;
}

/** What a table of this type gives back for a row. */
std::vector<float> stored(const std::vector<float>& row, RowType type) {
  const RowEncoder encoder(type, static_cast<uint32_t>(row.size()), ValueForm::kFloats);
  std::vector<std::byte> bytes(storedRowBytes(type, static_cast<uint32_t>(row.size())));
  CHECK(encoder.encode(std::as_bytes(std::span(row)), bytes.data()));
  std::vector<float> decoded(row.size());
  float low = 0;
  float high = 0;
  if (type == RowType::kInt8) {
    std::memcpy(&low, bytes.data(), 4);
    std::memcpy(&high, bytes.data() + 4, 4);
  }
  const float step = (high - low) / 255.0f;
  for (size_t i = 0; i < row.size(); ++i) {
    uint16_t half;
    if (type == RowType::kF32) std::memcpy(&decoded[i], bytes.data() + 4 * i, 4);
    if (type == RowType::kF16) {
      std::memcpy(&half, bytes.data() + 2 * i, 2);
      decoded[i] = floatOfHalf(half);
    }
    if (type == RowType::kInt8) {
      const float steps = static_cast<float>(static_cast<uint8_t>(bytes[8 + i])) * step;
      decoded[i] = low + steps;
    }
  }
  return decoded;
}

/** The rows of a table as a map, and the table. */
struct Model {
  FloatRows rows;
  RowType type = RowType::kF32;
  uint32_t dim = 0;
  std::shared_ptr<const TableVersion> table;
};

Model makeModel(const std::string& directory, RowType type, uint32_t dim, uint32_t shards, size_t count,
                size_t deltas, Residence residence) {
  std::mt19937_64 random(dim * 31 + shards * 7 + deltas + static_cast<uint64_t>(type));
  Model model{{}, type, dim, nullptr};
  TableBuildOptions options;
  options.rowType = type;
  options.dim = dim;
  options.shards = shards;
  FloatRows first;
  for (size_t i = 0; i < count; ++i) first[random() % (count * 3)] = randomRow(dim, random);
  first[0] = randomRow(dim, random);
  first[UINT64_MAX] = randomRow(dim, random);
  TableFiles files;
  files.snapshot = buildFiles(directory, options, {inputOf(first)});
  model.rows = first;
  options.kind = ShardKind::kDelta;
  for (size_t d = 0; d < deltas; ++d) {
    FloatRows changed;
    std::vector<uint64_t> deleted;
    for (size_t i = 0; i < count / 10 + 2; ++i) {
      const uint64_t key = random() % (count * 3);
      if (random() % 4 == 0) {
        deleted.push_back(key);
        changed.erase(key);
      } else {
        changed[key] = randomRow(dim, random);
      }
    }
    // Deletes come behind the rows: of one key the last one counts.
    files.deltas.push_back(buildFiles(directory, options, {inputOf(changed), deletesOf(deleted)}));
    for (const auto& [key, row] : changed) model.rows[key] = row;
    for (const uint64_t key : deleted) model.rows.erase(key);
  }
  for (auto& [key, row] : model.rows) row = stored(row, type);
  Result<std::shared_ptr<const TableVersion>> opened = TableVersion::open(files, residence);
  if (!opened.ok()) std::fprintf(stderr, "%s\n", opened.status().message().c_str());
  CHECK(opened.ok());
  model.table = opened.value();
  CHECK(model.table->rows().value() == model.rows.size());
  return model;
}

std::vector<uint64_t> someKeys(const Model& model, size_t count, std::mt19937_64& random) {
  std::vector<uint64_t> keys;
  for (size_t i = 0; i < count; ++i) keys.push_back(random() % (model.rows.size() * 4));
  if (count > 2) keys[1] = UINT64_MAX;
  if (count > 3) keys[2] = 0;
  return keys;
}

void checkPlain(const Model& model, const std::vector<uint64_t>& keys) {
  std::vector<float> out(keys.size() * model.dim);
  const std::vector<float> missingRow(model.dim, 7.5f);
  std::vector<uint8_t> bits((keys.size() + 7) / 8);
  GatherRequest request;
  request.keys = keys;
  request.out = out;
  request.defaultRow = missingRow;
  request.missing = bits;
  Result<size_t> missing = model.table->gather(request);
  CHECK(missing.ok());
  size_t expectedMissing = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto found = model.rows.find(keys[i]);
    const bool isMissing = found == model.rows.end();
    expectedMissing += isMissing;
    CHECK(((bits[i / 8] >> (i % 8)) & 1) == isMissing);
    const std::vector<float>& expected = isMissing ? missingRow : found->second;
    CHECK(std::memcmp(expected.data(), out.data() + i * model.dim, model.dim * 4) == 0);
  }
  CHECK(missing.value() == expectedMissing);
}

void checkBags(const Model& model, const std::vector<uint64_t>& keys, Combiner combiner, bool isWeighted,
               std::mt19937_64& random) {
  std::vector<uint64_t> ends;
  for (uint64_t end = 0; end < keys.size();) {
    end = std::min<uint64_t>(keys.size(), end + random() % 6);
    ends.push_back(end);
  }
  ends.push_back(keys.size());
  std::vector<float> weights;
  if (isWeighted)
    for (size_t i = 0; i < keys.size(); ++i)
      weights.push_back(std::uniform_real_distribution<float>(0.1f, 2)(random));
  std::vector<float> out(ends.size() * model.dim, NAN);
  GatherRequest request;
  request.keys = keys;
  request.combiner = combiner;
  request.bagEnds = ends;
  request.weights = weights;
  request.out = out;
  CHECK(model.table->gather(request).ok());
  uint64_t begin = 0;
  for (size_t bag = 0; bag < ends.size(); begin = ends[bag++]) {
    std::vector<float> sum(model.dim);
    float norm = 0;
    for (uint64_t i = begin; i < ends[bag]; ++i) {
      const float weight = isWeighted ? weights[i] : 1.0f;
      norm += combiner == Combiner::kSqrtN ? weight * weight : weight;
      const auto found = model.rows.find(keys[i]);
      for (size_t d = 0; d < model.dim && found != model.rows.end(); ++d) {
        const float value = found->second[d] * weight;
        sum[d] += value;
      }
    }
    for (size_t d = 0; d < model.dim; ++d) {
      float expected = sum[d];
      if (combiner == Combiner::kMean && norm != 0) expected /= norm;
      if (combiner == Combiner::kSqrtN && norm != 0) expected /= std::sqrt(norm);
      CHECK(expected == out[bag * model.dim + d]);
    }
  }
}

/** Every instruction set gives the bits of the scalar kernels, and reading ahead changes none. */
void checkKernels(const Model& model, const std::vector<uint64_t>& keys) {
  std::vector<ShardView> views;
  for (const auto& shard : model.table->snapshot()) views.push_back(shard->view());
  const ShardHeader& header = model.table->snapshot()[0]->header();
  const std::vector<float> zeros(model.dim);
  std::vector<uint64_t> ends;
  for (uint64_t end = 3; end < keys.size(); end += 3) ends.push_back(end);
  ends.push_back(keys.size());
  for (const Combiner combiner : {Combiner::kNone, Combiner::kMean}) {
    std::vector<float> expected;
    for (const char* name : {"scalar", "avx2", "avx512"}) {
      const GatherKernels* kernels = gatherKernels(name);
      if (kernels == nullptr) continue;
      std::vector<float> out((combiner == Combiner::kNone ? keys.size() : ends.size()) * model.dim);
      GatherPlan plan;
      plan.shards = views.data();
      plan.shardCount = views.size();
      plan.bucketBytes = header.bucketBytes();
      plan.payloadBytes = header.payloadBytes();
      plan.rowBytes = header.rowBytes();
      plan.rowType = header.rowType;
      plan.placement = header.placement;
      plan.dim = model.dim;
      plan.overlay = model.table->overlay();
      plan.keys = keys.data();
      plan.keyCount = keys.size();
      plan.out = out.data();
      plan.defaultRow = zeros.data();
      plan.combiner = combiner;
      plan.bagEnds = ends.data();
      plan.bagCount = ends.size();
      if (std::string_view(name) != "scalar") plan.readAhead = readAhead;
      CHECK(kernels->gather(plan).damaged == 0);
      if (expected.empty()) expected = out;
      CHECK(std::memcmp(expected.data(), out.data(), out.size() * 4) == 0);
    }
  }
}

void checkRefusals(const Model& model) {
  const std::vector<uint64_t> keys = {1, 2, 3};
  std::vector<float> out(2 * model.dim);
  GatherRequest request;
  request.keys = keys;
  request.out = out;
  CHECK(std::string_view(model.table->gather(request).status().code()) == code::kInternal);
  request.combiner = Combiner::kSum;
  const auto refuses = [&](std::vector<uint64_t> ends) {
    request.bagEnds = ends;
    Result<size_t> result = model.table->gather(request);
    CHECK(!result.ok());
    CHECK(std::string_view(result.status().code()) == code::kBadBags);
  };
  refuses({2, 1});
  refuses({2, 4});
  refuses({1, 2});
  const std::vector<uint64_t> good = {0, 3};
  request.bagEnds = good;
  CHECK(model.table->gather(request).ok());
}

/** The shards of a snapshot are asked with one hash. */
void checkMixedSeeds(const std::string& directory) {
  const FloatRows rows = {{0, {1.0f}}, {1, {2.0f}}, {2, {3.0f}}, {3, {4.0f}}};
  TableBuildOptions options;
  options.dim = 1;
  options.shards = 2;
  options.hashSeed = 7;
  const std::vector<std::string> seven = buildFiles(directory, options, {inputOf(rows)});
  options.hashSeed = 8;
  const std::vector<std::string> eight = buildFiles(directory, options, {inputOf(rows)});
  CHECK(TableVersion::open({eight, {}}, Residence::kMapped).ok());
  const auto mixed = TableVersion::open({{seven[0], eight[1]}, {}}, Residence::kMapped);
  CHECK(!mixed.ok() && std::string_view(mixed.status().code()) == code::kTableMismatch);
  CHECK(mixed.status().message().find(eight[1] + " has the hash seed 8, expected 7") != std::string::npos);
}

uint64_t pagesOfTest = 0;

/** Reading ahead begins with the table and goes on as long as a gather that is watched reads pages. */
void checkDiskWatch() {
  DiskWatch watch([] { return pagesOfTest; });
  const auto turn = [&](size_t keys, uint64_t pages) {
    const DiskWatch::Turn turn(watch, keys);
    pagesOfTest += pages;
    return turn.readsAhead();
  };
  CHECK(turn(832, 832));
  CHECK(turn(832, 0));
  CHECK(turn(832, 0));
  // 2048 keys after the first one, which was watched.
  CHECK(turn(832, 0));
  CHECK(!turn(832, 832));
  CHECK(!turn(10'000, 832));
  CHECK(turn(10'000, 10));
  CHECK(!turn(10'000, 10'000));
  CHECK(turn(1, 1));
}

}  // namespace

void testGather() {
  const TemporaryDirectory directory;
  std::mt19937_64 random(1);
  const auto check = [&](const Model& model) {
    for (const size_t count :
         {size_t{0}, size_t{1}, size_t{15}, size_t{17}, size_t{64}, size_t{512}, size_t{513}, size_t{1100}}) {
      const std::vector<uint64_t> keys = someKeys(model, count, random);
      checkPlain(model, keys);
      if (count == 0) continue;
      checkKernels(model, keys);
      for (const Combiner combiner : {Combiner::kSum, Combiner::kMean, Combiner::kSqrtN}) {
        checkBags(model, keys, combiner, false, random);
        checkBags(model, keys, combiner, true, random);
      }
    }
  };
  for (const RowType type : {RowType::kF32, RowType::kF16, RowType::kInt8})
    for (const uint32_t dim : {1u, 3u, 8u, 10u, 16u, 17u, 32u, 64u, 400u})
      for (const uint32_t shards : {1u, 3u})
        for (const size_t deltas : {size_t{0}, size_t{3}})
          check(makeModel(directory.path(), type, dim, shards, 700, deltas, Residence::kMapped));
  const Model inMemory = makeModel(directory.path(), RowType::kF32, 16, 2, 5000, 2, Residence::kInMemory);
  check(inMemory);
  checkRefusals(inMemory);
  checkMixedSeeds(directory.path());
  checkDiskWatch();
  for (const auto& shard : inMemory.table->snapshot())
    CHECK(shard->verify([](uint64_t) { return true; }).ok());
}
