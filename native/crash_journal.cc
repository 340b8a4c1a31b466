#include "crash_journal.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#ifdef __linux__
#include <sys/syscall.h>
#endif

namespace onnx_serving {
namespace {

constexpr int kFatalSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr size_t kSignalWord = 2;
constexpr size_t kSignalThreadWord = 3;
constexpr size_t kSlotCountWord = 4;

std::atomic<std::atomic<uint32_t>*> words{nullptr};
std::atomic<uint32_t> slotsTaken{0};
struct sigaction previousActions[64];
thread_local int32_t ownSlot = -1;
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free,
              "the words of the file are written by signal handlers");

uint32_t threadId() {
#ifdef __linux__
  return static_cast<uint32_t>(syscall(SYS_gettid));
#else
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pthread_self()));
#endif
}

void onFatalSignal(int signal, siginfo_t* info, void* context);

/** Gives the signal to the handler before this one; true when that has mended the fault. */
bool passOn(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = previousActions[signal];
  const bool takesInfo = (previous.sa_flags & SA_SIGINFO) != 0;
  if (takesInfo || (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)) {
    if (takesInfo) {
      previous.sa_sigaction(signal, info, context);
    } else {
      previous.sa_handler(signal);
    }
    // One that gives up (Node's own) puts the default action back and raises the signal again, which ends the
    // process on return; one that has mended the fault leaves the actions as they are.
    struct sigaction now = {};
    return sigaction(signal, nullptr, &now) == 0 && now.sa_handler != SIG_DFL;
  }
  struct sigaction fallback = {};
  fallback.sa_handler = SIG_DFL;
  sigaction(signal, &fallback, nullptr);
  // It is blocked while this handler runs, and ends the process on return.
  raise(signal);
  return false;
}

void onFatalSignal(int signal, siginfo_t* info, void* context) {
  const int savedErrno = errno;
  std::atomic<uint32_t>* const journal = words.load(std::memory_order_acquire);
  if (journal != nullptr) {
    journal[kSignalThreadWord].store(threadId(), std::memory_order_relaxed);
    journal[kSignalWord].store(static_cast<uint32_t>(signal), std::memory_order_release);
  }
  errno = savedErrno;
  // An earlier handler may know the fault and mend it (V8's own, for WebAssembly): then nothing has crashed.
  if (passOn(signal, info, context) && journal != nullptr)
    journal[kSignalWord].store(0, std::memory_order_release);
}

Status install() {
  struct sigaction action = {};
  action.sa_sigaction = onFatalSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (const int signal : kFatalSignals) {
    // The previous action is read first: the handler may run the moment it is in place.
    if (sigaction(signal, nullptr, &previousActions[signal]) != 0 ||
        sigaction(signal, &action, nullptr) != 0) {
      return {code::kInternal, "crash journal: no handler for signal " + std::to_string(signal)};
    }
  }
  return {};
}

}  // namespace

Status CrashJournal::open(const std::string& path) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (words.load() != nullptr) return {code::kInternal, "crash journal: it is open already"};
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return ioError("create", path, errno);
    // Blocks are claimed now: a full disk must be an error here, not a signal later.
#ifdef __linux__
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(kBytes));
#else
  const int error = ftruncate(fd, static_cast<off_t>(kBytes)) == 0 ? 0 : errno;
#endif
  void* const memory =
      error == 0 ? mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int mapError = error != 0 ? error : errno;
  ::close(fd);
  if (memory == MAP_FAILED) return ioError("map", path, mapError);
  auto* const journal = static_cast<std::atomic<uint32_t>*>(memory);
  journal[0].store(kMagic);
  journal[1].store(kFormat);
  journal[kSlotCountWord].store(kSlots);
  words.store(journal, std::memory_order_release);
  static const Status installed = install();
  return installed;
}

void CrashJournal::enter(uint32_t model) {
  std::atomic<uint32_t>* const journal = words.load(std::memory_order_acquire);
  if (journal == nullptr) return;
  if (ownSlot < 0) ownSlot = static_cast<int32_t>(slotsTaken.fetch_add(1) % kSlots);
  std::atomic<uint32_t>* const slot = journal + kHeaderWords + 2 * ownSlot;
  slot[0].store(threadId(), std::memory_order_relaxed);
  slot[1].store(model, std::memory_order_release);
}

void CrashJournal::leave() {
  std::atomic<uint32_t>* const journal = words.load(std::memory_order_acquire);
  if (journal == nullptr || ownSlot < 0) return;
  journal[kHeaderWords + 2 * ownSlot + 1].store(0, std::memory_order_release);
}

void CrashJournal::close() { words.store(nullptr, std::memory_order_release); }

}  // namespace onnx_serving
