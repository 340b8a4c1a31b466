#include "../crash_journal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "check.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

namespace {

constexpr size_t kWords = CrashJournal::kBytes / sizeof(uint32_t);

/** Runs `body` with an open journal in a process of its own and returns what its journal says in the end. */
std::array<uint32_t, kWords> journalOf(void (*body)(), int expectedSignal) {
  const TemporaryFile file(0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (!CrashJournal::open(file.path()).ok()) _exit(99);
    body();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(expectedSignal == 0 ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                            : WIFSIGNALED(status) && WTERMSIG(status) == expectedSignal);
  std::array<uint32_t, kWords> words{};
  const int fd = open(file.path().c_str(), O_RDONLY);
  CHECK(read(fd, words.data(), CrashJournal::kBytes) == static_cast<ssize_t>(CrashJournal::kBytes));
  close(fd);
  CHECK(words[0] == CrashJournal::kMagic && words[1] == CrashJournal::kFormat);
  return words;
}

volatile sig_atomic_t mendedFaults = 0;

}  // namespace

void testCrashJournal() {
  // Without a journal nothing is noted and nothing breaks.
  CrashJournal::enter(1);
  CrashJournal::leave();
  CHECK(!CrashJournal::open("/nowhere/at/all").ok());

  const auto aborted = journalOf(
      [] {
        CrashJournal::enter(7);
        raise(SIGABRT);
      },
      SIGABRT);
  CHECK(aborted[2] == SIGABRT && aborted[3] == aborted[8] && aborted[9] == 7);

  const auto idle = journalOf(
      [] {
        CrashJournal::enter(7);
        CrashJournal::leave();
        raise(SIGABRT);
      },
      SIGABRT);
  CHECK(idle[2] == SIGABRT && idle[9] == 0);

  const auto killed = journalOf(
      [] {
        CrashJournal::enter(7);
        raise(SIGKILL);
      },
      SIGKILL);
  CHECK(killed[2] == 0 && killed[9] == 7);

  const auto onPurpose = journalOf(
      [] {
        CrashJournal::enter(7);
        CrashJournal::close();
        raise(SIGABRT);
      },
      SIGABRT);
  CHECK(onPurpose[2] == 0);

  const auto second = journalOf(
      [] {
        if (CrashJournal::open("/tmp/onnx-serving-test-second").ok()) raise(SIGKILL);
      },
      0);
  CHECK(second[2] == 0);

  // A handler that was there before and mends the fault: the process lives, and nobody is blamed.
  struct sigaction mend = {};
  mend.sa_handler = [](int) { mendedFaults = mendedFaults + 1; };
  struct sigaction before = {};
  CHECK(sigaction(SIGFPE, &mend, &before) == 0);
  const auto mended = journalOf(
      [] {
        CrashJournal::enter(7);
        raise(SIGFPE);
        if (mendedFaults != 1) raise(SIGKILL);
      },
      0);
  CHECK(mended[2] == 0);
  CHECK(sigaction(SIGFPE, &before, nullptr) == 0);

  // A handler that was there before and gives up, as Node's does: it puts the default back and raises again.
  struct sigaction giveUp = {};
  giveUp.sa_handler = [](int signal) {
    struct sigaction fallback = {};
    fallback.sa_handler = SIG_DFL;
    sigaction(signal, &fallback, nullptr);
    raise(signal);
  };
  CHECK(sigaction(SIGILL, &giveUp, &before) == 0);
  const auto gaveUp = journalOf(
      [] {
        CrashJournal::enter(7);
        raise(SIGILL);
      },
      SIGILL);
  CHECK(gaveUp[2] == SIGILL && gaveUp[9] == 7);
  CHECK(sigaction(SIGILL, &before, nullptr) == 0);
}
