// 512-bit vectors and products of bfloat16 pairs in hardware.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "dropout.h"
#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 16
#define RK_NATIVE_BF16
#define MR 13
#define RK_TABLE rk_avx512bf16
#define RK_NAME "avx512bf16"
#include "vector_kernels.h"
#pragma clang attribute pop
#endif
