#pragma once

#include <functional>

#include "status.h"

namespace onnx_serving {

/**
 * Runs work that nobody waits for on a thread of its own, to which the system gives what others leave, and
 * returns when it has ended. Threads that the work starts inherit that. Where the system knows no priorities
 * of threads, or gives no thread, it is plain work.
 */
Status atLowPriority(const std::function<Status()>& work);

}  // namespace onnx_serving
