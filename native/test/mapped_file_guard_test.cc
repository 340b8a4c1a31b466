#include "../mapped_file_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../mapped_file.h"
#include "check.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr const char* kMaps =
    "5581c000-5581d000 r--p 00000000 fe:00 1234                       /usr/bin/some-program\n"
    "7f0000000000-7f0000400000 rw-p 00000000 fe:00 987654321012 /models/with space/w.bin\n"
    "7f0000400000-7f0000401000 rw-p 00000000 00:00 0 \n";

/** Searches the text in pieces of any size: read() may cut it anywhere. */
bool find(uintptr_t address, MappingFacts& facts) {
  bool isFirst = true;
  bool isFound = false;
  for (size_t piece = 1; piece < 70; ++piece) {
    MappingSearch search(address);
    bool found = false;
    for (size_t at = 0; at < std::strlen(kMaps) && !found; at += piece) {
      found = search.feed(kMaps + at, std::min(piece, std::strlen(kMaps) - at));
    }
    CHECK(isFirst || (found == isFound && search.facts().inode == facts.inode));
    isFirst = false;
    isFound = found;
    facts = search.facts();
  }
  return isFound;
}

/** How a child ends that runs `work`. */
template <class Work>
int statusOfChild(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

/**
 * Whether all bytes are zero or x. Not instrumented: to the thread sanitizer the mmap of one thread's handler
 * is a write that races with the readers; what it shall watch here is the guard's own counters.
 */
__attribute__((no_sanitize("thread"), noinline)) bool isKeptOrZero(std::span<const std::byte> bytes,
                                                                   size_t step = 1) {
  const std::byte* const at = bytes.data();
  const size_t end = bytes.size();
  // From both ends: the first of them must not be what saves the others.
  for (size_t i = 0; i < end; i += step) {
    for (const size_t place : {end - 1 - i, i})
      if (at[place] != std::byte{0} && at[place] != std::byte{'x'}) return false;
  }
  return true;
}

}  // namespace

void testMappedFileGuard() {
  MappingFacts facts;
  CHECK(find(0x7f0000000000, facts) && facts.inode == 987654321012 && facts.isWritable);
  CHECK(find(0x5581cfff, facts) && facts.inode == 1234 && !facts.isWritable && facts.isNamed);
  CHECK(find(0x7f0000400010, facts) && facts.inode == 0 && !facts.isNamed);
  CHECK(!find(0x5581d000, facts));
#ifdef __linux__
  // The handler that was there before: the default one, not a sanitizer's report.
  signal(SIGBUS, SIG_DFL);
  CHECK(MappedFileGuard::install().ok());
  CHECK(MappedFileGuard::install().ok());

  const auto pageBytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  constexpr size_t kPages = 100;
  TemporaryFile file(kPages * pageBytes);
  struct stat stats;
  CHECK(stat(file.path().c_str(), &stats) == 0);
  for (const bool isWritable : {false, true}) {
    const uint64_t before = MappedFileGuard::faults();
    file.truncate(static_cast<off_t>(kPages * pageBytes));
    const auto mapped = MappedFile::open(file.path(), {.copyOnWrite = isWritable}).value();
    file.truncate(static_cast<off_t>(pageBytes / 2));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&mapped] { CHECK(isKeptOrZero(mapped->bytes())); });
    }
    for (std::thread& thread : threads) thread.join();
    // Without writers all pages behind the first are replaced at once; two threads may do it both.
    CHECK(MappedFileGuard::faults() - before >= (isWritable ? kPages - 1 : 1));
    const std::span<const std::byte> bytes = mapped->bytes();
    CHECK(MappedFileGuard::hasLost(bytes, before) &&
          !MappedFileGuard::hasLost(bytes, MappedFileGuard::faults()));
    CHECK(isWritable || MappedFileGuard::hasLost(bytes.last(1), before));
    CHECK(!MappedFileGuard::hasLost(bytes.first(pageBytes), before));
    CHECK(MappedFileGuard::faultedInodes() == std::vector<uint64_t>{stats.st_ino});
    if (isWritable) mapped->bytes().back() = std::byte{1};
  }

  // More lost pages, each apart from the next, than the kernel allows mappings.
  constexpr size_t kManyPages = 150'000;
  file.truncate(static_cast<off_t>(kManyPages * pageBytes));
  const auto large = MappedFile::open(file.path(), {}).value();
  file.truncate(0);
  CHECK(isKeptOrZero(large->bytes(), 2 * pageBytes));

  const int sent = statusOfChild([] { kill(getpid(), SIGBUS); });
  CHECK(WIFSIGNALED(sent) && WTERMSIG(sent) == SIGBUS);
#endif
}
