#include "mapped_file_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>
#include <system_error>

namespace onnx_serving {
namespace {

struct Replaced {
  /** 0 for an entry that is not used, or is being written. */
  std::atomic<uintptr_t> address;
  std::atomic<uintptr_t> end;
  std::atomic<uint64_t> inode;
  /** Replacements before this one. */
  std::atomic<uint64_t> number;
};

constexpr size_t kRingSlots = 64;
Replaced ring[kRingSlots];
/** Entries that were begun, and those that can be read. */
std::atomic<uint64_t> begunCount;
std::atomic<uint64_t> faultCount;
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "a signal handler may not take a lock");

#ifdef __linux__

struct sigaction previousAction;
uintptr_t pageBytes;

bool findMapping(uintptr_t address, MappingFacts& facts) {
  const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  MappingSearch search(address);
  char piece[1024];
  bool isFound = false;
  while (!isFound) {
    const ssize_t got = read(fd, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    isFound = search.feed(piece, static_cast<size_t>(got));
  }
  close(fd);
  facts = search.facts();
  return isFound;
}

void note(uintptr_t page, uintptr_t end, uint64_t inode) {
  const uint64_t number = begunCount.fetch_add(1, std::memory_order_acq_rel);
  Replaced& entry = ring[number % kRingSlots];
  entry.address.store(0, std::memory_order_relaxed);
  entry.end.store(end, std::memory_order_release);
  entry.inode.store(inode, std::memory_order_relaxed);
  entry.number.store(number, std::memory_order_relaxed);
  entry.address.store(page, std::memory_order_release);
  faultCount.fetch_add(1, std::memory_order_acq_rel);
}

bool replacePage(uintptr_t address) {
  MappingFacts facts;
  // The list of mappings is read in pieces and may change between two of them, so one miss proves nothing.
  bool isFound = findMapping(address, facts);
  for (int retries = 3; !isFound && retries > 0; --retries) isFound = findMapping(address, facts);
  if (!isFound) return false;
  // Memory without a file gives no such fault: another thread fell over the same page and was faster.
  if (facts.inode == 0) return !facts.isNamed;
  const uintptr_t page = address & ~(pageBytes - 1);
  const uintptr_t end = facts.isWritable ? page + pageBytes : facts.end;
  const int protection = PROT_READ | (facts.isWritable ? PROT_WRITE : 0);
  void* const wanted = reinterpret_cast<void*>(page);
  // Noted before it is done: another thread reads the zeros without a fault of its own, and looks here then.
  note(page, end, facts.inode);
  return mmap(wanted, end - page, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

void passOn(int signal, siginfo_t* info, void* context) {
  if (previousAction.sa_flags & SA_SIGINFO) {
    previousAction.sa_sigaction(signal, info, context);
    return;
  }
  const bool isFault = info->si_code > 0;
  if (previousAction.sa_handler == SIG_IGN && !isFault) return;
  if (previousAction.sa_handler != SIG_DFL && previousAction.sa_handler != SIG_IGN) {
    previousAction.sa_handler(signal);
    return;
  }
  // A fault comes again by itself when the instruction is repeated; a signal that was sent must be raised
  // anew.
  struct sigaction fallback = {};
  fallback.sa_handler = SIG_DFL;
  sigaction(signal, &fallback, nullptr);
  if (!isFault) raise(signal);
}

void onBusError(int signal, siginfo_t* info, void* context) {
  const int savedErrno = errno;
  const bool isHandled =
      info->si_code == BUS_ADRERR && replacePage(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = savedErrno;
  if (!isHandled) passOn(signal, info, context);
}

#endif

}  // namespace

Status MappedFileGuard::install() {
#ifdef __linux__
  static std::mutex mutex;
  static bool isInstalled = false;
  const std::lock_guard lock(mutex);
  if (isInstalled) return {};
  pageBytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  // The previous action is read first: the handler may run the moment it is in place.
  if (sigaction(SIGBUS, nullptr, &previousAction) == 0) {
    struct sigaction action = {};
    action.sa_sigaction = onBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    isInstalled = sigaction(SIGBUS, &action, nullptr) == 0;
  }
  if (!isInstalled) {
    return {code::kInternal, "SIGBUS handler refused: " + std::system_category().message(errno)};
  }
#endif
  return {};
}

uint64_t MappedFileGuard::faults() { return faultCount.load(std::memory_order_acquire); }

std::vector<uint64_t> MappedFileGuard::faultedInodes() {
  std::vector<uint64_t> inodes;
  for (const Replaced& entry : ring) {
    if (entry.address.load(std::memory_order_acquire) == 0) continue;
    inodes.push_back(entry.inode.load(std::memory_order_relaxed));
  }
  std::sort(inodes.begin(), inodes.end());
  inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
  return inodes;
}

bool MappedFileGuard::hasLost(std::span<const std::byte> bytes, uint64_t since) {
  if (faults() == since) return false;
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  for (const Replaced& entry : ring) {
    const uintptr_t from = entry.address.load(std::memory_order_acquire);
    if (from == 0 || from >= begin + bytes.size()) continue;
    if (entry.end.load(std::memory_order_relaxed) <= begin) continue;
    if (entry.number.load(std::memory_order_relaxed) >= since) return true;
  }
  return false;
}

bool MappingSearch::feed(const char* text, size_t length) {
  for (size_t i = 0; i < length; ++i) {
    const char c = text[i];
    if (c == '\n') {
      if (endLine()) return true;
      continue;
    }
    const bool isSeparator = c == ' ' || (c == '-' && field_ == Field::kStart);
    if (isSeparator) {
      if (field_ != Field::kRest) field_ = static_cast<Field>(static_cast<uint8_t>(field_) + 1);
      continue;
    }
    const uintptr_t hex = c <= '9' ? static_cast<uintptr_t>(c - '0') : static_cast<uintptr_t>(c - 'a' + 10);
    switch (field_) {
      case Field::kStart:
        start_ = start_ << 4 | hex;
        break;
      case Field::kEnd:
        end_ = end_ << 4 | hex;
        break;
      case Field::kPermissions:
        if (permissionIndex_++ == 1) facts_.isWritable = c == 'w';
        break;
      case Field::kInode:
        facts_.inode = facts_.inode * 10 + static_cast<uint64_t>(c - '0');
        break;
      case Field::kRest:
        facts_.isNamed = true;
        break;
      default:
        break;
    }
  }
  return false;
}

bool MappingSearch::endLine() {
  if (start_ <= address_ && address_ < end_) {
    facts_.end = end_;
    return true;
  }
  field_ = Field::kStart;
  start_ = end_ = 0;
  permissionIndex_ = 0;
  facts_ = {};
  return false;
}

}  // namespace onnx_serving
