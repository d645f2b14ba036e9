// Eight rows at a time in 256-bit vectors. MULTIPLY_BYTES(sum, row, query) adds groups of four
// products to the eight sums; the sums of eight rows are then added up by transposing.
#define GROUP 8

static inline __attribute__((always_inline)) void byte_products(const uint8_t *const *rows,
                                                               const int8_t *q, long stride,
                                                               int32_t *out) {
  __m256i s[8];
  _Pragma("clang loop unroll(full)") for (int r = 0; r < 8; r++) s[r] = _mm256_setzero_si256();
  for (long j = 0; j < stride; j += 32) {
    __m256i query = _mm256_loadu_si256((const __m256i *)(q + j));
    _Pragma("clang loop unroll(full)") for (int r = 0; r < 8; r++)
        s[r] = MULTIPLY_BYTES(s[r], _mm256_loadu_si256((const __m256i *)(rows[r] + j)), query);
  }
  __m256i f[2];
  _Pragma("clang loop unroll(full)") for (int r = 0; r < 2; r++) {
    __m256i *a = s + 4 * r;
    f[r] = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
  }
  _mm256_storeu_si256((__m256i *)out,
                      _mm256_add_epi32(_mm256_permute2x128_si256(f[0], f[1], 0x20),
                                       _mm256_permute2x128_si256(f[0], f[1], 0x31)));
}
