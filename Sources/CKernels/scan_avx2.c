// 256-bit vectors.
#if defined(__x86_64__)
#include <immintrin.h>

#include "scan_best.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,popcnt,bmi"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 8

// The one instruction for byte products takes an unsigned and a signed factor and saturates at 16
// bits. With the query's sign moved to the row, both are at most 127 and two products fit.
static inline __attribute__((always_inline)) __m256i multiply_bytes(__m256i sum, __m256i row,
                                                                    __m256i query) {
  __m256i centred = _mm256_xor_si256(row, _mm256_set1_epi8((char)0x80));
  __m256i turned = _mm256_sign_epi8(centred, query);
  __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(query), turned);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#define MULTIPLY_BYTES(sum, row, query) multiply_bytes(sum, row, query)
#define BYTE_OFFSET(query) 0
#include "scan_bytes_256.h"
#define SCAN_TABLE rk_scan_avx2
#define SCAN_NAME "avx2"
#include "scan.h"
#pragma clang attribute pop
#endif
