#include <string.h>

#include "riffle_kernels.h"
#include "tables.h"

const rk_table *rk_select(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  int has512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  int has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  int has_bf16 = has512 && __builtin_cpu_supports("avx512bf16");
  if (has_bf16 && (!name || !strcmp(name, "avx512bf16"))) return &rk_avx512bf16;
  if (has512 && (!name || !strcmp(name, "avx512"))) return &rk_avx512;
  if (has2 && (!name || !strcmp(name, "avx2"))) return &rk_avx2;
#endif
  if (!name || !strcmp(name, "portable")) return &rk_portable;
  if (!strcmp(name, "reference")) return &rk_reference;
  return 0;
}
