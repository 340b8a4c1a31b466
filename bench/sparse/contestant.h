#pragma once

// What the contestants have in common: each is a process that waits for a line of words on standard input,
// does what it says and answers with one line of JSON. So a scenario can let them take turns.

#include <sys/resource.h>

#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench_rows.h"

namespace onnx_serving::bench {

/** CPU time of this process, all its threads, in seconds. */
inline double cpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

struct Faults {
  long minor = 0;
  long major = 0;
};

inline Faults faultsSoFar() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {usage.ru_minflt, usage.ru_majflt};
}

/** Gathers one batch: `batch` rows of the keys from `first` on into `out`. Thread t has its own state. */
using GatherBatch = std::function<void(unsigned thread, size_t first, size_t batch, float* out)>;

/** Lets `threads` threads gather batches in turn for some seconds; answers with keys/s and what it took. */
inline std::string runBatches(size_t keyCount, size_t dim, size_t batch, unsigned threads, double forSeconds,
                              const GatherBatch& gather) {
  std::vector<uint64_t> done(threads);
  std::vector<double> took(threads);
  const double cpuBefore = cpuSeconds();
  const Faults before = faultsSoFar();
  const auto run = [&](unsigned t) {
    AlignedFloats out(batch * dim);
    const size_t batches = keyCount / batch;
    const auto startedAt = Clock::now();
    // The clock is asked every few batches only: it is not what is measured.
    const size_t stride = std::max<size_t>(1, 8192 / batch);
    uint64_t own = 0;
    for (size_t b = t * batches / threads; seconds(Clock::now() - startedAt) < forSeconds;) {
      for (size_t i = 0; i < stride; ++i, b = (b + 1) % batches, own += batch)
        gather(t, b * batch, batch, out.data());
    }
    took[t] = seconds(Clock::now() - startedAt);
    done[t] = own;
  };
  std::vector<std::thread> others;
  for (unsigned t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& other : others) other.join();
  double rate = 0;
  uint64_t keys = 0;
  for (unsigned t = 0; t < threads; ++t) {
    rate += static_cast<double>(done[t]) / took[t];
    keys += done[t];
  }
  const Faults after = faultsSoFar();
  std::ostringstream answer;
  answer.precision(12);
  answer << "{\"keys\":" << keys << ",\"keysPerSecond\":" << rate
         << ",\"nsPerBatch\":" << 1e9 * static_cast<double>(batch) * threads / rate
         << ",\"keysPerCpuSecond\":" << static_cast<double>(keys) / (cpuSeconds() - cpuBefore)
         << ",\"minorFaults\":" << after.minor - before.minor
         << ",\"majorFaults\":" << after.major - before.major << "}";
  return answer.str();
}

/** The commands that every contestant in process has. `deltas` hundredths of `rows` rows were changed. */
inline void serveGathers(const std::vector<uint64_t>& keys, size_t dim, float tolerance, uint64_t rows,
                         int deltas, const GatherBatch& gather) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "hold") {
      holdPages();
      std::cout << "{\"held\":true}" << std::endl;
    } else if (command == "gather") {
      size_t batch = 0;
      unsigned threads = 0;
      double forSeconds = 0;
      words >> batch >> threads >> forSeconds;
      if (!words || batch == 0 || batch > keys.size() || threads == 0) fail("bad command: " + line);
      std::cout << runBatches(keys.size(), dim, batch, threads, forSeconds, gather) << std::endl;
    } else if (command == "check") {
      // Every row of the first keys, element by element.
      const size_t count = std::min<size_t>(keys.size(), 100'000);
      AlignedFloats out(count * dim);
      gather(0, 0, count, out.data());
      size_t wrong = 0;
      for (size_t k = 0; k < count; ++k) {
        const uint64_t i = indexOf(keys[k]);
        const float add = i < rows / 100 * static_cast<uint64_t>(deltas) ? kDeltaAdd : 0;
        for (size_t d = 0; d < dim; ++d) {
          if (!(std::abs(out.data()[k * dim + d] - elementOf(i, d, add)) <= tolerance)) {
            ++wrong;
            break;
          }
        }
      }
      std::cout << "{\"checked\":" << count << ",\"wrong\":" << wrong << "}" << std::endl;
    } else {
      fail("bad command: " + line);
    }
  }
}

}  // namespace onnx_serving::bench
