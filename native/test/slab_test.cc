#include "../slab.h"

#include <atomic>
#include <thread>
#include <vector>

#include "check.h"
#include "tests.h"

using namespace onnx_serving;

void testSlab() {
  SlabRegistry registry;
  CHECK(!registry.create(0).ok());
  CHECK(!registry.create(SlabRegistry::kMaxBytes + 1).ok());
  CHECK(!registry.hold(1).ok());

  const uint32_t id = registry.create(4096).value();
  const auto memory = registry.hold(id).value();
  CHECK(memory.size() == 4096 && memory[4095] == std::byte{0});
  CHECK(registry.release(id));
  CHECK(!registry.release(id));
  CHECK(!registry.isOpen(id));
  CHECK(!registry.hold(id).ok());
  memory[0] = std::byte{1};
  CHECK(registry.stats().slabs == 1 && registry.stats().bytes == 4096);
  registry.letGo(id);
  CHECK(registry.stats().slabs == 0 && registry.stats().bytes == 0);
  registry.letGo(id);

  std::atomic<int> written = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&registry, &written] {
      for (int i = 0; i < 200; ++i) {
        const uint32_t own = registry.create(8192).value();
        auto view = registry.hold(own);
        registry.release(own);
        view.value()[8191] = std::byte{7};
        registry.letGo(own);
        ++written;
        // Another thread's slab may come and go at any moment; holding it is what makes it safe to touch.
        if (auto other = registry.hold(own + 1); other.ok()) {
          CHECK(other.value().size() == 8192);
          registry.letGo(own + 1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(written == 800);
  CHECK(registry.stats().slabs == 0);
}
