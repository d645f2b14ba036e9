// 256-bit vectors.
#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "dropout.h"
#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 8
#define MR 6
#define RK_TABLE rk_avx2
#define RK_NAME "avx2"
#include "vector_kernels.h"
#pragma clang attribute pop
#endif
