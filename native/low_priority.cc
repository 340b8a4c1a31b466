#include "low_priority.h"

#include <pthread.h>

#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace onnx_serving {
namespace {

struct BackgroundRun {
  const std::function<Status()>* work;
  Status status;
};

// A thread cannot raise its priority again without rights: therefore never a thread of the pool.
void* runInBackground(void* data) {
  auto* const run = static_cast<BackgroundRun*>(data);
#ifdef __linux__
  // On Linux a nice value is a thread's own, and weighs in its turns at the disk too.
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
#endif
  run->status = (*run->work)();
  return nullptr;
}

}  // namespace

Status atLowPriority(const std::function<Status()>& work) {
  BackgroundRun run{&work, {}};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, runInBackground, &run) != 0) return work();
  pthread_join(thread, nullptr);
  return run.status;
}

}  // namespace onnx_serving
