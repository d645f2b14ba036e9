// Sixteen rows at a time in 512-bit vectors. MULTIPLY_BYTES(sum, row, query) adds groups of four
// products to the sixteen sums; the sums of sixteen rows are then added up by transposing.
#define GROUP 16

static inline __attribute__((always_inline)) void byte_products(const uint8_t *const *rows,
                                                               const int8_t *q, long stride,
                                                               int32_t *out) {
  __m512i s[16];
  _Pragma("clang loop unroll(full)") for (int r = 0; r < 16; r++) s[r] = _mm512_setzero_si512();
  for (long j = 0; j < stride; j += 64) {
    __m512i query = _mm512_loadu_si512(q + j);
    _Pragma("clang loop unroll(full)") for (int r = 0; r < 16; r++)
        s[r] = MULTIPLY_BYTES(s[r], _mm512_loadu_si512(rows[r] + j), query);
  }
  __m512i f[4];
  _Pragma("clang loop unroll(full)") for (int r = 0; r < 4; r++) {
    __m512i *a = s + 4 * r;
    __m512i low = _mm512_add_epi32(_mm512_unpacklo_epi32(a[0], a[1]),
                                   _mm512_unpackhi_epi32(a[0], a[1]));
    __m512i high = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2], a[3]),
                                    _mm512_unpackhi_epi32(a[2], a[3]));
    f[r] = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
  }
  __m512i low = _mm512_add_epi32(_mm512_shuffle_i32x4(f[0], f[1], 0x88),
                                 _mm512_shuffle_i32x4(f[0], f[1], 0xdd));
  __m512i high = _mm512_add_epi32(_mm512_shuffle_i32x4(f[2], f[3], 0x88),
                                  _mm512_shuffle_i32x4(f[2], f[3], 0xdd));
  _mm512_storeu_si512(out, _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88),
                                            _mm512_shuffle_i32x4(low, high, 0xdd)));
}
