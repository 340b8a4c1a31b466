#pragma once

// Gathers and the limit of the machine in turns of a few hundredths of a second: what neighbours do to one
// turn they do to those around it too, and the ratios of a round compare only those.

#include <time.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../../native/table/table_version.h"
#include "bench_rows.h"
#include "known_positions.h"

namespace onnx_serving::bench {

/** Keys of a distribution, and where the row of each lies: in the table, and packed. */
struct AskedKeys {
  const char* distribution;
  std::vector<uint64_t> keys;
  std::vector<const std::byte*> inTable;
  std::vector<const std::byte*> packed;
};

/** What is the same for all turns of the rounds. */
struct Combination {
  const TableVersion& table;
  const char* residence;
  size_t batch;
  unsigned threads;
  double turnSeconds;
  int rounds;
};

/** CPU time of this thread. */
inline double threadCpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/**
 * Threads that go through batches of keys, each with a place and an output of its own. A turn goes on where
 * the one before ended: none finds the rows of another in the cache. Seconds are those that a thread had a
 * core for: none of them waits for anything, so on a quiet machine that is the time by the clock.
 */
class BatchThreads {
 public:
  BatchThreads(const Combination& asked, size_t keyCount)
      : batch_(asked.batch), batches_(keyCount / asked.batch), turnSeconds_(asked.turnSeconds) {
    for (unsigned t = 0; t < asked.threads; ++t) {
      outputs_.emplace_back(asked.batch * asked.table.dim());
      at_.push_back(t * batches_ / asked.threads);
    }
  }

  /** Keys a second of `work(first key, output)` in one turn. */
  template <class Work>
  double rate(Work work) {
    std::vector<double> rates(at_.size()), shares(at_.size());
    const auto run = [&](size_t t) {
      size_t& at = at_[t];
      size_t done = 0;
      const auto startedAt = Clock::now();
      const double cpuBefore = threadCpuSeconds();
      double took = 0;
      for (; took < turnSeconds_; took = seconds(Clock::now() - startedAt)) {
        work(at * batch_, outputs_[t].data());
        at = at + 1 == batches_ ? 0 : at + 1;
        done += batch_;
      }
      const double cpu = threadCpuSeconds() - cpuBefore;
      rates[t] = static_cast<double>(done) / cpu;
      shares[t] = cpu / took;
    };
    std::vector<std::thread> others;
    for (size_t t = 1; t < at_.size(); ++t) others.emplace_back(run, t);
    run(0);
    for (std::thread& other : others) other.join();
    coreShares_.insert(coreShares_.end(), shares.begin(), shares.end());
    return std::accumulate(rates.begin(), rates.end(), 0.0);
  }

  /** How much of a core each thread had in each turn. */
  const std::vector<double>& coreShares() const { return coreShares_; }

 private:
  size_t batch_;
  size_t batches_;
  double turnSeconds_;
  std::vector<AlignedFloats> outputs_;
  /** The next batch of each thread. */
  std::vector<size_t> at_;
  std::vector<double> coreShares_;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

inline std::vector<double> ratiosOf(const std::vector<double>& over, const std::vector<double>& under) {
  std::vector<double> ratios(over.size());
  std::transform(over.begin(), over.end(), under.begin(), ratios.begin(), std::divides<>());
  return ratios;
}

/** The higher of each round. */
inline std::vector<double> bestOf(std::vector<double> ones, const std::vector<double>& others) {
  for (size_t round = 0; round < ones.size(); ++round) ones[round] = std::max(ones[round], others[round]);
  return ones;
}

/** The rates of one distribution: of gathers, and of the ways to copy that set its limit. */
class GatherTurns {
 public:
  /** The gather and four ways to copy. */
  static constexpr size_t kKinds = 5;

  /** Tries all ways for a while and keeps two for the rows in the table and two for the packed ones. */
  GatherTurns(const Combination& asked, const AskedKeys& keys)
      : asked_(asked), keys_(keys), threads_(asked, keys.keys.size()) {
    for (const auto* places : {&keys.inTable, &keys.packed}) addBestWays(*places);
  }

  /** Takes a turn: kind 0 gathers, the others copy. */
  void take(size_t kind) { rates_[kind].push_back(kind == 0 ? gather() : copy(ways_[kind - 1])); }

  const std::vector<double>& gathers() const { return rates_[0]; }

  /** A line of JSON; `uniform` is what the rate is to be compared with. */
  std::string line(const GatherTurns& uniform) const {
    const std::vector<double> inTable = bestOf(rates_[1], rates_[2]);
    const std::vector<double> packed = bestOf(rates_[3], rates_[4]);
    const std::vector<double> limits = bestOf(inTable, packed);
    std::ostringstream line;
    line.precision(10);
    line << "{\"what\":\"gather\",\"residence\":\"" << asked_.residence << "\",\"keys\":\""
         << keys_.distribution << "\",\"batch\":" << asked_.batch << ",\"threads\":" << asked_.threads
         << ",\"gather\":" << median(gathers()) << ",\"limit\":" << median(limits)
         << ",\"ratio\":" << median(ratiosOf(gathers(), limits))
         << ",\"overUniform\":" << median(ratiosOf(gathers(), uniform.gathers()))
         << ",\"coreShare\":" << median(threads_.coreShares()) << ",\"tableLimit\":" << median(inTable)
         << ",\"packedLimit\":" << median(packed) << ",\"best\":[\"" << ways_[0].variant.name
         << " in the table\",\"" << ways_[2].variant.name << " packed\"],\"gathers\":" << listOf(gathers())
         << ",\"limits\":" << listOf(limits) << "}";
    return line.str();
  }

 private:
  /** A way to copy from one of the two places. */
  struct Way {
    KnownVariant variant;
    const std::vector<const std::byte*>* places;
  };

  void addBestWays(const std::vector<const std::byte*>& places) {
    constexpr int kTrials = 3;
    std::vector<std::pair<std::vector<double>, Way>> tried;
    for (const KnownVariant& variant : knownVariants(rowBytes())) tried.push_back({{}, {variant, &places}});
    for (int trial = 0; trial < kTrials; ++trial)
      for (auto& [rates, way] : tried) rates.push_back(copy(way));
    std::sort(tried.begin(), tried.end(),
              [](const auto& a, const auto& b) { return median(a.first) > median(b.first); });
    for (size_t i = 0; i < 2; ++i) ways_.push_back(tried[i].second);
  }

  double gather() {
    return threads_.rate([&](size_t first, float* out) {
      GatherRequest request;
      request.keys = {&keys_.keys[first], asked_.batch};
      request.out = {out, asked_.batch * asked_.table.dim()};
      const auto missing = asked_.table.gather(request);
      if (!missing.ok()) fail(missing.status().message());
    });
  }

  double copy(const Way& way) {
    return threads_.rate([&](size_t first, float* out) {
      way.variant.copy(&(*way.places)[first], asked_.batch, rowBytes(), reinterpret_cast<std::byte*>(out));
    });
  }

  size_t rowBytes() const { return storedRowBytes(asked_.table.rowType(), asked_.table.dim()); }

  static std::string listOf(const std::vector<double>& values) {
    std::string list = "[";
    for (const double value : values)
      list += (list.size() > 1 ? "," : "") + std::to_string(static_cast<uint64_t>(value));
    return list + "]";
  }

  const Combination& asked_;
  const AskedKeys& keys_;
  BatchThreads threads_;
  std::vector<Way> ways_;
  std::array<std::vector<double>, kKinds> rates_;
};

/** Uniform and Zipf keys, gathers and copies in turns; prints a line for each of the two. */
inline void runRounds(const Combination& asked, const AskedKeys& uniform, const AskedKeys& zipf) {
  std::array<GatherTurns, 2> both = {GatherTurns(asked, uniform), GatherTurns(asked, zipf)};
  constexpr size_t kTurns = 2 * GatherTurns::kKinds;
  for (int round = 0; round < asked.rounds; ++round) {
    // The order turns by one a round, so that none is always the one after another.
    for (size_t at = 0; at < kTurns; ++at) {
      const size_t turn = (at + static_cast<size_t>(round)) % kTurns;
      both[turn % 2].take(turn / 2);
    }
  }
  for (const GatherTurns& turns : both) std::printf("%s\n", turns.line(both[0]).c_str());
  std::fflush(stdout);
}

}  // namespace onnx_serving::bench
