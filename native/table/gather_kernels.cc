#include <cstring>

#include "gather_plan.h"

namespace onnx_serving {

extern const GatherKernels kScalarKernels;
#if defined(__x86_64__)
extern const GatherKernels kAvx2Kernels;
extern const GatherKernels kAvx512Kernels;
#endif

const GatherKernels* gatherKernels(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (std::strcmp(name, "avx512") == 0) {
    const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("bmi2");
    return has ? &kAvx512Kernels : nullptr;
  }
  // Every processor with AVX2 has F16C too.
  if (std::strcmp(name, "avx2") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") ? &kAvx2Kernels : nullptr;
#endif
  return std::strcmp(name, "scalar") == 0 ? &kScalarKernels : nullptr;
}

const GatherKernels& bestGatherKernels() {
  static const GatherKernels& best = []() -> const GatherKernels& {
    for (const char* name : {"avx512", "avx2"})
      if (const GatherKernels* kernels = gatherKernels(name)) return *kernels;
    return *gatherKernels("scalar");
  }();
  return best;
}

}  // namespace onnx_serving
