// 512-bit vectors and the instruction for sums of byte products.
#if defined(__x86_64__)
#include <immintrin.h>

#include "scan_best.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,popcnt,bmi"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 16
#define MULTIPLY_BYTES(sum, row, query) _mm512_dpbusd_epi32(sum, row, query)
#define BYTE_OFFSET(query) (128 * (query)->code_sum)
#include "scan_bytes_512.h"
#define SCAN_TABLE rk_scan_avx512vnni
#define SCAN_NAME "avx512vnni"
#include "scan.h"
#pragma clang attribute pop
#endif
