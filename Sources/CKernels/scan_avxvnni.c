// 256-bit vectors and the instruction for sums of byte products.
#if defined(__x86_64__)
#include <immintrin.h>

#include "scan_best.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni,popcnt,bmi"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 8
#define MULTIPLY_BYTES(sum, row, query) _mm256_dpbusd_avx_epi32(sum, row, query)
#define BYTE_OFFSET(query) (128 * (query)->code_sum)
#include "scan_bytes_256.h"
#define SCAN_TABLE rk_scan_avxvnni
#define SCAN_NAME "avxvnni"
#include "scan.h"
#pragma clang attribute pop
#endif
