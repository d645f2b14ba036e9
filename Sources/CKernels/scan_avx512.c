// 512-bit vectors on processors without the instruction for sums of byte products.
#if defined(__x86_64__)
#include <immintrin.h>

#include "scan_best.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,popcnt,bmi"))), apply_to = function)
#pragma clang fp contract(fast)
#define VL 16

// The one instruction for byte products takes an unsigned and a signed factor and saturates at 16
// bits. With the query's sign moved to the row, both are at most 127 and two products fit.
static inline __attribute__((always_inline)) __m512i multiply_bytes(__m512i sum, __m512i row,
                                                                    __m512i query) {
  __m512i centred = _mm512_xor_si512(row, _mm512_set1_epi8((char)0x80));
  __m512i turned = _mm512_mask_sub_epi8(centred, _mm512_movepi8_mask(query),
                                        _mm512_setzero_si512(), centred);
  __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(query), turned);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#define MULTIPLY_BYTES(sum, row, query) multiply_bytes(sum, row, query)
#define BYTE_OFFSET(query) 0
#include "scan_bytes_512.h"
#define SCAN_TABLE rk_scan_avx512
#define SCAN_NAME "avx512"
#include "scan.h"
#pragma clang attribute pop
#endif
