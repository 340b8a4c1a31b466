#include "thread_team.h"

#include <pthread.h>

#include <vector>

namespace onnx_serving {
namespace {

struct Member {
  const std::function<void(unsigned)>* work;
  unsigned number;
  pthread_t thread;
};

void* runMember(void* data) {
  const auto* const member = static_cast<const Member*>(data);
  (*member->work)(member->number);
  return nullptr;
}

}  // namespace

// Not std::thread: without exceptions it ends the process where a limit on threads is reached.
void runThreads(unsigned threads, const std::function<void(unsigned)>& work) {
  std::vector<Member> members;
  members.reserve(threads);
  for (unsigned number = 1; number < threads; ++number) {
    members.push_back({&work, number, {}});
    if (pthread_create(&members.back().thread, nullptr, runMember, &members.back()) == 0) continue;
    members.pop_back();
    break;
  }
  work(0);
  for (const Member& member : members) pthread_join(member.thread, nullptr);
}

}  // namespace onnx_serving
