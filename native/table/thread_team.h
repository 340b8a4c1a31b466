#pragma once

#include <functional>

namespace onnx_serving {

/**
 * Runs `work(0)` to `work(threads - 1)` at once, one of them on the calling thread, and returns when all have
 * ended. Where the system gives fewer threads the later numbers are not run, so `work` has to share out what
 * there is to do.
 */
void runThreads(unsigned threads, const std::function<void(unsigned)>& work);

}  // namespace onnx_serving
