#include "exchange_paths.h"

#include <cerrno>

#if defined(__linux__)
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <stdio.h>
#endif

namespace onnx_serving {
namespace {

int exchange([[maybe_unused]] const char* first, [[maybe_unused]] const char* second) {
#if defined(__linux__) && defined(SYS_renameat2)
  // RENAME_EXCHANGE; C libraries before glibc 2.28 have neither the function nor the name.
  constexpr unsigned kExchange = 2;
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, second, kExchange));
#elif defined(__APPLE__)
  return renamex_np(first, second, RENAME_SWAP);
#else
  errno = ENOSYS;
  return -1;
#endif
}

}  // namespace

Result<bool> exchangePaths(const std::string& first, const std::string& second) {
  if (exchange(first.c_str(), second.c_str()) == 0) return true;
  const int error = errno;
  // What kernels, file systems and sandboxes answer that do not know the call or the flag.
  if (error == ENOSYS || error == EINVAL || error == ENOTSUP || error == EPERM) return false;
  return ioError("exchange", first + " and " + second, error);
}

}  // namespace onnx_serving
