// 128-bit vectors: SSE2 on x86-64, NEON on arm64, plain loops over bytes elsewhere.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "scan_best.h"

#pragma clang fp contract(fast)
#define VL 4
#define GROUP 4
#define ROWS _Pragma("clang loop unroll(full)") for (int r = 0; r < GROUP; r++)

static inline __attribute__((always_inline)) void byte_products(const uint8_t *const *rows,
                                                               const int8_t *q, long stride,
                                                               int32_t *out) {
#if defined(__x86_64__)
  const __m128i zero = _mm_setzero_si128();
  __m128i s[GROUP];
  ROWS s[r] = zero;
  for (long j = 0; j < stride; j += 16) {
    __m128i query = _mm_loadu_si128((const __m128i *)(q + j));
    __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(query, query), 8);
    __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(query, query), 8);
    ROWS {
      __m128i row = _mm_loadu_si128((const __m128i *)(rows[r] + j));
      __m128i front = _mm_madd_epi16(_mm_unpacklo_epi8(row, zero), low);
      __m128i back = _mm_madd_epi16(_mm_unpackhi_epi8(row, zero), high);
      s[r] = _mm_add_epi32(s[r], _mm_add_epi32(front, back));
    }
  }
  // Four sums of four by transposing.
  __m128i a = _mm_add_epi32(_mm_unpacklo_epi32(s[0], s[1]), _mm_unpackhi_epi32(s[0], s[1]));
  __m128i b = _mm_add_epi32(_mm_unpacklo_epi32(s[2], s[3]), _mm_unpackhi_epi32(s[2], s[3]));
  _mm_storeu_si128((__m128i *)out,
                   _mm_add_epi32(_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)));
#elif defined(__aarch64__)
  const uint8x16_t centre = vdupq_n_u8(0x80);
  int32x4_t s[GROUP];
  ROWS s[r] = vdupq_n_s32(0);
  for (long j = 0; j < stride; j += 16) {
    int8x16_t query = vld1q_s8(q + j);
    ROWS {
      int8x16_t row = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(rows[r] + j), centre));
#if defined(__ARM_FEATURE_DOTPROD)
      s[r] = vdotq_s32(s[r], row, query);
#else
      // Two products of at most 127 * 127 fit into 16 bits.
      int16x8_t pairs = vmull_s8(vget_low_s8(row), vget_low_s8(query));
      s[r] = vpadalq_s16(s[r], vmlal_s8(pairs, vget_high_s8(row), vget_high_s8(query)));
#endif
    }
  }
  vst1q_s32(out, vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3])));
#else
  for (int r = 0; r < GROUP; r++) {
    int32_t s = 0;
    for (long j = 0; j < stride; j++) s += rows[r][j] * q[j];
    out[r] = s;
  }
#endif
}

#if defined(__aarch64__)
#define BYTE_OFFSET(query) 0
#else
#define BYTE_OFFSET(query) (128 * (query)->code_sum)
#endif
#define SCAN_TABLE rk_scan_portable
#define SCAN_NAME "portable"
#include "scan.h"
