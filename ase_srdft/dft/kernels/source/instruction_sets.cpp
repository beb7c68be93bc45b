// Which of the builds this processor can run.
#include "exported.hpp"

// 0: the portable one; 1: AVX2 and FMA as well; 2: AVX-512 (F, BW, CD, DQ, VL) as well.
SRDFT_EXPORT int srdft_supported_instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx2 ? 1 + avx512 : 0;
#else
  return 0;
#endif
}
