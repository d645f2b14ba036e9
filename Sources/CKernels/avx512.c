// 512-bit vectors.
#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "dropout.h"
#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 16
#define MR 13
#define RK_TABLE rk_avx512
#define RK_NAME "avx512"
#include "vector_kernels.h"
#pragma clang attribute pop
#endif
