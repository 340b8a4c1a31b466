#include "../table/row_encoder.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../float16.h"
#include "check.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

std::span<const std::byte> bytesOf(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

void testHalves() {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = floatOfHalf(static_cast<uint16_t>(half));
    if (std::isnan(value)) {
      CHECK(std::isnan(floatOfHalf(halfOfFloat(value))));
    } else {
      CHECK(halfOfFloat(value) == half);
    }
  }
  // Between two neighbours: the nearer one, in the middle the even one.
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const double low = floatOfHalf(half);
    const double high = floatOfHalf(static_cast<uint16_t>(half + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    const uint16_t even = half % 2 == 0 ? half : static_cast<uint16_t>(half + 1);
    CHECK(halfOfFloat(middle) == even);
    CHECK(halfOfFloat(std::nextafter(middle, 0.0f)) == half);
    CHECK(halfOfFloat(std::nextafter(middle, 1e9f)) == half + 1);
    CHECK(halfOfFloat(-middle) == (even | 0x8000));
  }
  CHECK(halfOfFloat(65519.0f) == 0x7bff);
  CHECK(halfOfFloat(65520.0f) == 0x7c00);
  CHECK(halfOfFloat(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(halfOfFloat(1e-30f) == 0);
}

void testInt8() {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> values(-3, 5);
  constexpr uint32_t kDim = 33;
  const RowEncoder encoder(RowType::kInt8, kDim, ValueForm::kFloats);
  std::vector<std::byte> row(8 + kDim);
  for (int round = 0; round < 100; ++round) {
    std::vector<float> value(kDim);
    for (float& element : value) element = values(random);
    CHECK(encoder.encode(bytesOf(value), row.data()));
    float low, high;
    std::memcpy(&low, row.data(), 4);
    std::memcpy(&high, row.data() + 4, 4);
    const float step = (high - low) / 255;
    for (size_t i = 0; i < kDim; ++i) {
      const float decoded = low + static_cast<float>(row[8 + i]) * step;
      CHECK(std::abs(decoded - value[i]) <= step * 0.501f);
    }
  }
  const std::vector<float> constant(kDim, -2.5f);
  CHECK(encoder.encode(bytesOf(constant), row.data()));
  CHECK(row[8] == std::byte{0} && row[8 + kDim - 1] == std::byte{0});
  float low;
  std::memcpy(&low, row.data(), 4);
  CHECK(low == -2.5f);

  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    std::vector<float> value(kDim, 1);
    value[20] = bad;
    CHECK(!encoder.encode(bytesOf(value), row.data()));
    const Status problem = encoder.problem(99, bytesOf(value), "rows.npy");
    CHECK(problem.code() == std::string(code::kBadInputFile));
    CHECK(problem.message().find("rows.npy: the value of key 99") == 0);
    CHECK(problem.message().find("element 20") != std::string::npos);
  }
  std::vector<float> wide(kDim, -3e38f);
  wide[1] = 3e38f;
  CHECK(!encoder.encode(bytesOf(wide), row.data()));
  CHECK(encoder.problem(1, bytesOf(wide), "x").message().find("range") != std::string::npos);
}

void testForms() {
  const std::vector<float> value{1, -2, 0.5f};
  std::vector<std::byte> row(64);
  const RowEncoder floats(RowType::kF32, 3, ValueForm::kFloats);
  CHECK(floats.encode(bytesOf(value), row.data()));
  CHECK(std::memcmp(row.data(), value.data(), 12) == 0);

  const RowEncoder halves(RowType::kF16, 3, ValueForm::kFloats);
  CHECK(halves.encode(bytesOf(value), row.data()));
  const uint16_t expected[] = {0x3c00, 0xc000, 0x3800};
  CHECK(std::memcmp(row.data(), expected, 6) == 0);

  const RowEncoder stored(RowType::kInt8, 4, ValueForm::kStored);
  CHECK(stored.valueBytes() == 12);
  CHECK(stored.encode(bytesOf(value), row.data()));
  CHECK(std::memcmp(row.data(), value.data(), 12) == 0);
  CHECK(!stored.encode(bytesOf({NAN, 1, 1}), row.data()));

  const RowEncoder bytes(RowType::kBytes, 0, ValueForm::kFloats);
  CHECK(bytes.encode(bytesOf(value), row.data()) && bytes.encode({}, row.data()));

  CHECK(!floats.encode(bytesOf({1, 2}), row.data()));
  const Status problem = floats.problem(7, bytesOf({1, 2}), "a.seq");
  CHECK(problem.code() == std::string(code::kTableMismatch));
  CHECK(problem.message() == "a.seq: the value of key 7 has 8 bytes, expected 12: 3 floats");
}

void testDims() {
  CHECK(dimOfValue(RowType::kF32, ValueForm::kFloats, 64) == 16);
  CHECK(dimOfValue(RowType::kF32, ValueForm::kFloats, 63) == 0);
  CHECK(dimOfValue(RowType::kF32, ValueForm::kFloats, 0) == 0);
  CHECK(dimOfValue(RowType::kF16, ValueForm::kStored, 64) == 32);
  CHECK(dimOfValue(RowType::kInt8, ValueForm::kFloats, 64) == 16);
  CHECK(dimOfValue(RowType::kInt8, ValueForm::kStored, 24) == 16);
  CHECK(dimOfValue(RowType::kInt8, ValueForm::kStored, 8) == 0);
  CHECK(dimOfValue(RowType::kF32, ValueForm::kFloats, size_t{4} * (ShardHeader::kMaxDim + 1)) == 0);
  CHECK(dimOfValue(RowType::kBytes, ValueForm::kFloats, 5) == 0);
}

}  // namespace

void testRowEncoder() {
  testHalves();
  testInt8();
  testForms();
  testDims();
}
