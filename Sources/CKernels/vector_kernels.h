// The fast versions, written once over vectors of VL floats and compiled for each instruction set.
//
// The including file defines VL (floats in a vector), MR (rows of the matrix product's register
// tile), RK_TABLE (the table's name) and RK_NAME, and sets the target attribute around this file.
//
// The matrix product keeps a tile of MR x 2 vectors of C in registers, walks along k, broadcasts
// elements of A from where they stand and reads rows of a panel of B that is 2 vectors wide. A
// panel is contiguous when B was packed, and is read with B's own stride when not.

#include <math.h>
#include <string.h>

#include "dropout.h"
#include "tables.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float vf __attribute__((vector_size(4 * VL)));
typedef float vfu __attribute__((vector_size(4 * VL), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef int32_t viu __attribute__((vector_size(4 * VL), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));

enum { NR = 2 * VL };

INLINE vf load(const float *p) { return *(const vfu *)p; }
INLINE void store(float *p, vf x) { *(vfu *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf load_n(const float *p, long n) {
  vf x = {0};
  memcpy(&x, p, (size_t)n * 4);
  return x;
}
INLINE void store_n(float *p, vf x, long n) { memcpy(p, &x, (size_t)n * 4); }
INLINE vf select_f(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
INLINE vf max_f(vf a, vf b) { return __builtin_elementwise_max(a, b); }
INLINE vf min_f(vf a, vf b) { return __builtin_elementwise_min(a, b); }

// Folds a vector in halves down to four floats, then to one.
typedef float v4 __attribute__((vector_size(16)));
#if VL == 16
typedef float v8 __attribute__((vector_size(32)));
#define FOLD(x, op)                                                                   \
  v8 h_ = op(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7),                   \
             __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));            \
  v4 q_ = op(__builtin_shufflevector(h_, h_, 0, 1, 2, 3), __builtin_shufflevector(h_, h_, 4, 5, 6, 7));
#elif VL == 8
#define FOLD(x, op) \
  v4 q_ = op(__builtin_shufflevector(x, x, 0, 1, 2, 3), __builtin_shufflevector(x, x, 4, 5, 6, 7));
#else
#define FOLD(x, op) v4 q_ = x;
#endif
#define FOLD_END(op)                                       \
  v4 d_ = op(q_, __builtin_shufflevector(q_, q_, 2, 3, 2, 3)); \
  v4 s_ = op(d_, __builtin_shufflevector(d_, d_, 1, 1, 1, 1)); \
  return s_[0];
#define PLUS(a, b) ((a) + (b))
INLINE float sum_of(vf x) { FOLD(x, PLUS) FOLD_END(PLUS) }
INLINE float max_of(vf x) {
  FOLD(x, __builtin_elementwise_max) FOLD_END(__builtin_elementwise_max)
}

// Runs a body over a row of n in vectors; the last, short one goes through copies.
#define FOR_VECTORS(n)                 \
  for (long i_ = 0; i_ < (n); i_ += VL)

INLINE vf get(const float *p, long i, long n) {
  return i + VL <= n ? load(p + i) : load_n(p + i, n - i);
}
INLINE void put(float *p, long i, long n, vf x) {
  if (i + VL <= n)
    store(p + i, x);
  else
    store_n(p + i, x, n - i);
}

// exp by x = k ln 2 + r and a degree-6 polynomial (the constants of Cephes' expf); relative error
// about 2^-23. Below -87.3 the result is about 1e-38.
INLINE vf exp_v(vf x) {
  x = min_f(max_f(x, splat(-87.3f)), splat(88.0f));
  const vf magic = splat(12582912.0f);
  vf k = (x * splat(1.44269504f) + magic) - magic;
  vf r = x - k * splat(0.693359375f);
  r = r + k * splat(2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * r * r + r + splat(1.0f);
  vi e = (__builtin_convertvector(k, vi) + 127) << 23;
  return p * (vf)e;
}

// exp where |x| <= 80 is known: no clamping, the exponent is added to the bits, degree 6 in fewer
// steps.
INLINE vf exp_bounded_v(vf x) {
  const vf magic = splat(12582912.0f);
  vf t = x * splat(1.44269504f) + magic;
  vf k = t - magic;
  vf r = x - k * splat(0.693359375f);
  r = r + k * splat(2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * r + splat(1.0f);
  p = p * r + splat(1.0f);
  return (vf)((vi)p + ((vi)t << 23));
}

// Phi(x) and exp(-x^2/2): the error function by Abramowitz & Stegun 7.1.26, absolute error 1.5e-7.
INLINE void normal_v(vf x, vf *cumulative, vf *density) {
  vf z = (vf)((vi)x & 0x7fffffff) * splat(0.70710678f);
  vf t = splat(1.0f) / (splat(1.0f) + splat(0.3275911f) * z);
  vf p = splat(1.061405429f);
  p = p * t + splat(-1.453152027f);
  p = p * t + splat(1.421413741f);
  p = p * t + splat(-0.284496736f);
  p = p * t + splat(0.254829592f);
  vf g = exp_bounded_v(max_f(-z * z, splat(-80.0f)));
  vf tail = splat(0.5f) * p * t * g;  // 1 - Phi(|x|)
  *cumulative = select_f(x < splat(0), tail, splat(1.0f) - tail);
  *density = g;
}

INLINE vu lane_numbers(void) {
  vu x;
  UNROLL for (int i = 0; i < VL; i++) x[i] = (uint32_t)i;
  return x;
}

INLINE vf keep_v(long index, rk_dropout d) {
  vu h = (lane_numbers() + ((uint32_t)index + d.seed)) * RK_HASH1;
  h ^= h >> 15;
  h *= RK_HASH2;
  h ^= h >> 13;
  h *= RK_HASH3;
  h ^= h >> 16;
  return select_f((vi)((vi)(h >> 8) >= (int32_t)d.threshold), splat(d.scale), splat(0));
}

// ---- matrix products ---------------------------------------------------------------------------

static size_t packed_floats(long n, long k) { return (size_t)((n + NR - 1) / NR * NR * k); }

static void pack(int transposed, long n, long k, const float *b, long ldb, float *packed) {
  for (long j = 0; j < n; j += NR, packed += k * NR) {
    long w = n - j < NR ? n - j : NR;
    if (!transposed) {
      for (long p = 0; p < k; p++) {
        const float *row = b + p * ldb + j;
        float *o = packed + p * NR;
        if (w == NR) {
          store(o, load(row));
          store(o + VL, load(row + VL));
        } else {
          memset(o, 0, NR * 4);
          memcpy(o, row, (size_t)w * 4);
        }
      }
    } else {
      if (w < NR) memset(packed, 0, (size_t)(k * NR) * 4);
      for (long p0 = 0; p0 < k; p0 += 16) {
        long p1 = p0 + 16 < k ? p0 + 16 : k;
        for (long q = 0; q < w; q++) {
          const float *row = b + (j + q) * ldb;
          for (long p = p0; p < p1; p++) packed[p * NR + q] = row[p];
        }
      }
    }
  }
}

enum { store_product, add_product, exp_product };

// The products of one register tile. Short tiles (m < MR rows) repeat the last row.
INLINE void product_tile(long k, const float *a, long row_stride, long column_stride,
                         const float *b, long ldb, long m, vf acc[MR][2]) {
  UNROLL for (int i = 0; i < MR; i++) acc[i][0] = acc[i][1] = (vf){0};
  if (m == MR) {
    for (long p = 0; p < k; p++) {
      vf b0 = load(b), b1 = load(b + VL);
      UNROLL for (int i = 0; i < MR; i++) {
        vf x = splat(a[i * row_stride]);
        acc[i][0] += x * b0;
        acc[i][1] += x * b1;
      }
      a += column_stride;
      b += ldb;
    }
  } else {
    long at[MR];
    UNROLL for (int i = 0; i < MR; i++) at[i] = (i < m ? i : m - 1) * row_stride;
    for (long p = 0; p < k; p++) {
      vf b0 = load(b), b1 = load(b + VL);
      UNROLL for (int i = 0; i < MR; i++) {
        vf x = splat(a[at[i]]);
        acc[i][0] += x * b0;
        acc[i][1] += x * b1;
      }
      a += column_stride;
      b += ldb;
    }
  }
}

// One register tile of m <= MR rows and n <= NR columns, stored; short ones go through a buffer.
INLINE void tile(long k, const float *a, long row_stride, long column_stride, const float *b,
                 long ldb, float *c, long ldc, long m, long n, int mode, float alpha,
                 vf *row_sums) {
  vf acc[MR][2];
  product_tile(k, a, row_stride, column_stride, b, ldb, m, acc);
  if (m == MR && n == NR) {
    UNROLL for (int i = 0; i < MR; i++) {
      float *o = c + i * ldc;
      vf x = acc[i][0], y = acc[i][1];
      if (mode == exp_product) {
        x = exp_bounded_v(x);
        y = exp_bounded_v(y);
        row_sums[i] += x + y;
      } else {
        x *= splat(alpha);
        y *= splat(alpha);
        if (mode == add_product) {
          x += load(o);
          y += load(o + VL);
        }
      }
      store(o, x);
      store(o + VL, y);
    }
  } else {
    float buffer[MR * NR];
    UNROLL for (int i = 0; i < MR; i++) {
      vf x = acc[i][0], y = acc[i][1];
      if (mode == exp_product) {
        x = exp_bounded_v(x);
        y = exp_bounded_v(y);
      } else {
        x *= splat(alpha);
        y *= splat(alpha);
      }
      store(buffer + i * NR, x);
      store(buffer + i * NR + VL, y);
    }
    for (long i = 0; i < m; i++) {
      float *o = c + i * ldc;
      const float *x = buffer + i * NR;
      if (mode == exp_product) {
        float sum = 0;
        for (long j = 0; j < n; j++) sum += o[j] = x[j];
        row_sums[i][0] += sum;
      } else if (mode == add_product) {
        for (long j = 0; j < n; j++) o[j] += x[j];
      } else {
        memcpy(o, x, (size_t)n * 4);
      }
    }
  }
}

// All row groups against one panel of B.
INLINE void panel(long m, long n, long k, float alpha, const float *a, long row_stride,
                  long column_stride, const float *b, long ldb, int mode, float *c, long ldc) {
  for (long i = 0; i < m; i += MR) {
    long h = m - i < MR ? m - i : MR;
    tile(k, a + i * row_stride, row_stride, column_stride, b, ldb, c + i * ldc, ldc, h, n, mode,
         alpha, 0);
  }
}

// Picks constant strides where they are known, so that the inner loop has fixed offsets.
INLINE void any_panel(long m, long n, long k, float alpha, const float *a, long row_stride,
                      long column_stride, const float *b, long ldb, int accumulate, float *c,
                      long ldc) {
  if (column_stride == 1) {
    if (accumulate)
      panel(m, n, k, alpha, a, row_stride, 1, b, ldb, add_product, c, ldc);
    else
      panel(m, n, k, alpha, a, row_stride, 1, b, ldb, store_product, c, ldc);
  } else if (row_stride == 1) {
    if (accumulate)
      panel(m, n, k, alpha, a, 1, column_stride, b, ldb, add_product, c, ldc);
    else
      panel(m, n, k, alpha, a, 1, column_stride, b, ldb, store_product, c, ldc);
  } else {
    if (accumulate)
      panel(m, n, k, alpha, a, row_stride, column_stride, b, ldb, add_product, c, ldc);
    else
      panel(m, n, k, alpha, a, row_stride, column_stride, b, ldb, store_product, c, ldc);
  }
}

static __attribute__((noinline)) void panel_call(long m, long n, long k, float alpha,
                                                 const float *a, long row_stride,
                                                 long column_stride, const float *b, long ldb,
                                                 int accumulate, float *c, long ldc) {
  any_panel(m, n, k, alpha, a, row_stride, column_stride, b, ldb, accumulate, c, ldc);
}

static void gemm_packed(long m, long n, long k, float alpha, const float *a, long row_stride,
                        long column_stride, const float *packed, int accumulate, float *c,
                        long ldc) {
  // Long k: a row group's part of A is worth keeping, so the panels go inside.
  long rows = k > 256 ? MR : m;
  for (long i = 0; i < m; i += rows) {
    long h = m - i < rows ? m - i : rows;
    for (long j = 0; j < n; j += NR)
      panel_call(h, n - j < NR ? n - j : NR, k, alpha, a + i * row_stride, row_stride,
                 column_stride, packed + j * k, NR, accumulate, c + i * ldc + j, ldc);
  }
}

enum { KC = 256 };

static size_t gemm_scratch(long k) { return (size_t)((k < KC ? k : KC) * NR); }

static void gemm(long m, long n, long k, float alpha, const float *a, long row_stride,
                 long column_stride, const float *b, long ldb, int accumulate, float *c, long ldc,
                 float *scratch) {
  if (k == 0 && !accumulate)
    for (long i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * 4);
  for (long p = 0; p < k; p += KC) {
    long depth = k - p < KC ? k - p : KC;
    for (long j = 0; j < n; j += NR) {
      const float *from = b + p * ldb + j;
      long stride = ldb, w = n - j < NR ? n - j : NR;
      if (w < NR) {
        // Reading past a row's end could leave the buffer.
        for (long q = 0; q < depth; q++) {
          memset(scratch + q * NR, 0, NR * 4);
          memcpy(scratch + q * NR, from + q * ldb, (size_t)w * 4);
        }
        from = scratch;
        stride = NR;
      }
      panel_call(m, w, depth, alpha, a + p * column_stride, row_stride, column_stride, from, stride,
                 accumulate || p > 0, c + j, ldc);
    }
  }
}

// A kind of epilogue of its own inside this file: rk_bias_activation without slopes.
enum { activation_alone = 3 };

// What an epilogue makes of a vector of products that starts at a row and column; `left` columns
// remain. `c` is where the result goes.
INLINE void finish(const rk_epilogue *e, int kind, vf x, long row, long column, long left, float *c,
                   long offset) {
  x += get(e->bias + column, 0, left);
  if (kind == rk_bias_dropout_add) {
    if (e->dropout.threshold) x *= keep_v(row * e->columns + column, e->dropout);
    x += get(e->residual + offset, 0, left);
  } else if (kind != rk_add_bias) {
    vf y, slope;
    if (e->activation == rk_gelu) {
      vf cumulative, density;
      normal_v(x, &cumulative, &density);
      y = x * cumulative;
      slope = cumulative + x * splat(0.39894228f) * density;
    } else if (e->activation == rk_silu) {
      vf s = splat(1.0f) / (splat(1.0f) + exp_v(-x));
      y = x * s;
      slope = s * (splat(1.0f) + x * (splat(1.0f) - s));
    } else {
      y = max_f(x, splat(0));
      slope = select_f(x > splat(0), splat(1), splat(0));
    }
    if (e->dropout.threshold) {
      vf kept = keep_v(row * e->columns + column, e->dropout);
      y *= kept;
      slope *= kept;
    }
    if (kind != activation_alone) put(e->slopes + offset, 0, left, slope);
    x = y;
  }
  put(c + offset, 0, left, x);
}

// Finishes a register tile of m rows and n columns at (row, column).
INLINE void finish_tile(const rk_epilogue *e, int kind, vf acc[][2], long rows, long m, long n,
                        long row, long column, float *c, long ldc) {
  if (m == rows && n == NR) {
    for (int i = 0; i < rows; i++) {
      finish(e, kind, acc[i][0], row + i, column, VL, c, (row + i) * ldc + column);
      finish(e, kind, acc[i][1], row + i, column + VL, VL, c, (row + i) * ldc + column + VL);
    }
  } else {
    for (long i = 0; i < m; i++)
      for (int h = 0; h < 2 && h * VL < n; h++)
        finish(e, kind, acc[i][h], row + i, column + h * VL, n - h * VL < VL ? n - h * VL : VL, c,
               (row + i) * ldc + column + h * VL);
  }
}

INLINE void gemm_finished(long m, long n, long k, const float *a, long lda, const float *packed,
                          const rk_epilogue *e, int kind, float *c, long ldc) {
  for (long j = 0; j < n; j += NR)
    for (long i = 0; i < m; i += MR) {
      vf acc[MR][2];
      long h = m - i < MR ? m - i : MR;
      product_tile(k, a + i * lda, lda, 1, packed + j * k, NR, h, acc);
      finish_tile(e, kind, acc, MR, h, n - j < NR ? n - j : NR, i, j, c, ldc);
    }
}

// One row: a register tile would compute MR of them. Four panels at once keep eight sums going, each
// in the order in which a tile adds.
INLINE void gemm_one_row(long n, long k, const float *a, const float *packed, const rk_epilogue *e,
                         int kind, float *c, long ldc) {
  for (long j = 0; j < n; j += 4 * NR) {
    vf acc[4][2];
    const float *b[4];
    UNROLL for (int q = 0; q < 4; q++) {
      acc[q][0] = acc[q][1] = (vf){0};
      // Panels past the end repeat the group's first.
      b[q] = packed + (j + q * NR < n ? j + q * NR : j) * k;
    }
    for (long p = 0; p < k; p++) {
      vf x = splat(a[p]);
      UNROLL for (int q = 0; q < 4; q++) {
        acc[q][0] += x * load(b[q] + p * NR);
        acc[q][1] += x * load(b[q] + p * NR + VL);
      }
    }
    for (long q = 0; q < 4 && j + q * NR < n; q++) {
      long left = n - j - q * NR;
      finish_tile(e, kind, acc + q, 1, 1, left < NR ? left : NR, 0, j + q * NR, c, ldc);
    }
  }
}

// Calls `function` with the epilogue's kind as a constant.
#define BY_KIND(function, ...)                                                               \
  switch (epilogue->kind) {                                                                  \
    case rk_add_bias: function(__VA_ARGS__, epilogue, rk_add_bias, c, ldc); break;           \
    case rk_bias_dropout_add:                                                                \
      function(__VA_ARGS__, epilogue, rk_bias_dropout_add, c, ldc);                          \
      break;                                                                                 \
    default:                                                                                 \
      if (epilogue->slopes)                                                                  \
        function(__VA_ARGS__, epilogue, rk_bias_activation, c, ldc);                         \
      else                                                                                   \
        function(__VA_ARGS__, epilogue, activation_alone, c, ldc);                           \
  }

static void gemm_epilogue(long m, long n, long k, const float *a, long lda, const float *packed,
                          const rk_epilogue *epilogue, float *c, long ldc) {
  if (m == 1) {
    BY_KIND(gemm_one_row, n, k, a, packed)
  } else {
    BY_KIND(gemm_finished, m, n, k, a, lda, packed)
  }
}

static void gemm_exp(long m, long n, long k, const float *a, long lda, const float *packed,
                     float *c, long ldc, float *row_sums) {
  for (long i = 0; i < m; i += MR) {
    long h = m - i < MR ? m - i : MR;
    vf sums[MR];
    UNROLL for (int r = 0; r < MR; r++) sums[r] = (vf){0};
    for (long j = 0; j < n; j += NR)
      tile(k, a + i * lda, lda, 1, packed + j * k, NR, c + i * ldc + j, ldc, h,
           n - j < NR ? n - j : NR, exp_product, 1, sums);
    for (long r = 0; r < h; r++) row_sums[i + r] = sum_of(sums[r]);
  }
}

// ---- matrix products of bfloat16 -----------------------------------------------------------------

// Rows of a register tile: even, because results are stored in pairs of rows.
enum { MB = MR / 2 * 2 };

typedef uint32_t vuu __attribute__((vector_size(4 * VL), aligned(4)));
INLINE vu load_u(const uint32_t *p) { return *(const vuu *)p; }
INLINE void store_u(uint32_t *p, vu x) { *(vuu *)p = x; }

// acc + a.even * b.even + a.odd * b.odd
#if defined(RK_NATIVE_BF16)
INLINE vf dot_pairs(vf acc, uint32_t a, vu b) {
  return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
}
// x in the lower halves, y in the upper ones
INLINE vu to_pairs(vf x, vf y) {
  __m256i lower = (__m256i)_mm512_cvtneps_pbh((__m512)x), upper = (__m256i)_mm512_cvtneps_pbh((__m512)y);
  return (vu)_mm512_or_si512(_mm512_cvtepu16_epi32(lower),
                             _mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}
#else
INLINE vf dot_pairs(vf acc, uint32_t a, vu b) {
  acc += splat(rk_from_bf16(a & 0xffff)) * (vf)(b << 16);
  return acc + splat(rk_from_bf16(a >> 16)) * (vf)(b & 0xffff0000u);
}
INLINE vu round_bf16(vf x) {
  vu u = (vu)x, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  vu nan = (vu)((vi)((u & 0x7fffffff) > 0x7f800000u));
  return (rounded & ~nan) | (((u >> 16) | 0x40) & nan);
}
INLINE vu to_pairs(vf x, vf y) { return round_bf16(x) | round_bf16(y) << 16; }
#endif

static void bf16_rows(long m, long k, const float *x, long ldx, uint32_t *out, long stride) {
  for (long i = 0; i < m; i++) {
    const float *row = x + i * ldx;
    uint32_t *to = out + i * stride;
    long p = 0;
#if defined(RK_NATIVE_BF16)
    for (; p + 32 <= k; p += 32)
      store_u(to + p / 2, (vu)_mm512_cvtne2ps_pbh((__m512)load(row + p + 16), (__m512)load(row + p)));
#endif
    for (; p + 2 <= k; p += 2) to[p / 2] = rk_bf16(row[p]) | rk_bf16(row[p + 1]) << 16;
    if (p < k) to[p / 2] = rk_bf16(row[p]);
  }
}

static void bf16_row_pairs(long k, long n, const float *x, long ldx, uint32_t *out, long stride) {
  for (long p = 0; p < k; p += 2) {
    const float *even = x + p * ldx, *odd = even + ldx;
    uint32_t *to = out + p / 2 * stride;
    long j = 0;
    for (; j + VL <= n; j += VL)
      store_u(to + j, to_pairs(load(even + j), p + 1 < k ? load(odd + j) : splat(0)));
    for (; j < n; j++) to[j] = rk_bf16(even[j]) | (p + 1 < k ? rk_bf16(odd[j]) << 16 : 0);
  }
}

static size_t bf16_packed(long n, long k) { return (size_t)((n + NR - 1) / NR * NR * ((k + 1) / 2)); }

static void bf16_pack(int transposed, long n, long k, const float *b, long ldb, uint32_t *packed) {
  long pairs = (k + 1) / 2;
  for (long j = 0; j < n; j += NR, packed += pairs * NR) {
    long w = n - j < NR ? n - j : NR;
    if (w < NR) memset(packed, 0, (size_t)(pairs * NR) * 4);
    if (!transposed) {
      bf16_row_pairs(k, w, b + j, ldb, packed, NR);
    } else {
      for (long q = 0; q < w; q++) {
        const float *row = b + (j + q) * ldb;
        for (long p = 0; p < k; p += 2)
          packed[p / 2 * NR + q] = rk_bf16(row[p]) | (p + 1 < k ? rk_bf16(row[p + 1]) << 16 : 0);
      }
    }
  }
}

// A register tile of `rows` rows, a constant of at most MB; m of them are there.
INLINE void bf16_tile_of(int rows, long pairs, const uint32_t *a, long row_stride,
                         long column_stride, const uint32_t *b, vf acc[MB][2], long m) {
  UNROLL for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = (vf){0};
  if (m == rows) {
    for (long p = 0; p < pairs; p++, a += column_stride, b += NR) {
      vu b0 = load_u(b), b1 = load_u(b + VL);
      UNROLL for (int i = 0; i < rows; i++) {
        acc[i][0] = dot_pairs(acc[i][0], a[i * row_stride], b0);
        acc[i][1] = dot_pairs(acc[i][1], a[i * row_stride], b1);
      }
    }
  } else {
    long at[MB];
    UNROLL for (int i = 0; i < rows; i++) at[i] = (i < m ? i : m - 1) * row_stride;
    for (long p = 0; p < pairs; p++, a += column_stride, b += NR) {
      vu b0 = load_u(b), b1 = load_u(b + VL);
      UNROLL for (int i = 0; i < rows; i++) {
        acc[i][0] = dot_pairs(acc[i][0], a[at[i]], b0);
        acc[i][1] = dot_pairs(acc[i][1], a[at[i]], b1);
      }
    }
  }
}

INLINE void bf16_tile(long pairs, const uint32_t *a, long row_stride, long column_stride,
                      const uint32_t *b, vf acc[MB][2], long m) {
  bf16_tile_of(MB, pairs, a, row_stride, column_stride, b, acc, m);
}

INLINE void bf16_store(vf acc[MB][2], float alpha, int accumulate, float *c, long ldc, long m,
                       long n) {
  if (m == MB && n == NR) {
    UNROLL for (int i = 0; i < MB; i++) {
      float *o = c + i * ldc;
      vf x = acc[i][0] * splat(alpha), y = acc[i][1] * splat(alpha);
      if (accumulate) {
        x += load(o);
        y += load(o + VL);
      }
      store(o, x);
      store(o + VL, y);
    }
    return;
  }
  float buffer[MB * NR];
  UNROLL for (int i = 0; i < MB; i++) {
    store(buffer + i * NR, acc[i][0] * splat(alpha));
    store(buffer + i * NR + VL, acc[i][1] * splat(alpha));
  }
  for (long i = 0; i < m; i++) {
    float *o = c + i * ldc;
    const float *x = buffer + i * NR;
    if (accumulate)
      for (long j = 0; j < n; j++) o[j] += x[j];
    else
      memcpy(o, x, (size_t)n * 4);
  }
}

static void bf16_gemm(long m, long n, long pairs, float alpha, const uint32_t *a, long row_stride,
                      long column_stride, const uint32_t *packed, int accumulate, float *c,
                      long ldc) {
  for (long i = 0; i < m; i += MB) {
    long h = m - i < MB ? m - i : MB;
    for (long j = 0; j < n; j += NR) {
      vf acc[MB][2];
      if (column_stride == 1)
        bf16_tile(pairs, a + i * row_stride, row_stride, 1, packed + j * pairs, acc, h);
      else
        bf16_tile(pairs, a + i * row_stride, 1, column_stride, packed + j * pairs, acc, h);
      bf16_store(acc, alpha, accumulate, c + i * ldc + j, ldc, h, n - j < NR ? n - j : NR);
    }
  }
}

INLINE void bf16_tiles_finished(int rows, long m, long n, long pairs, const uint32_t *a, long lda,
                                const uint32_t *packed, const rk_epilogue *e, int kind, float *c,
                                long ldc) {
  for (long j = 0; j < n; j += NR)
    for (long i = 0; i < m; i += rows) {
      vf acc[MB][2];
      long h = m - i < rows ? m - i : rows;
      bf16_tile_of(rows, pairs, a + i * lda, lda, 1, packed + j * pairs, acc, h);
      finish_tile(e, kind, acc, rows, h, n - j < NR ? n - j : NR, i, j, c, ldc);
    }
}

// Tiles of equal heights: a short last tile costs as much as a whole one.
INLINE void bf16_gemm_finished(long m, long n, long pairs, const uint32_t *a, long lda,
                               const uint32_t *packed, const rk_epilogue *e, int kind, float *c,
                               long ldc) {
  long tiles = (m + MB - 1) / MB, rows = (m + tiles - 1) / tiles;
#define HEIGHT(h) \
  if (h < MB && rows <= h) return bf16_tiles_finished(h, m, n, pairs, a, lda, packed, e, kind, c, ldc);
  HEIGHT(2) HEIGHT(4) HEIGHT(6) HEIGHT(8) HEIGHT(10)
#undef HEIGHT
  bf16_tiles_finished(MB, m, n, pairs, a, lda, packed, e, kind, c, ldc);
}

// As `gemm_one_row`.
INLINE void bf16_one_row(long n, long pairs, const uint32_t *a, const uint32_t *packed,
                         const rk_epilogue *e, int kind, float *c, long ldc) {
  for (long j = 0; j < n; j += 4 * NR) {
    vf acc[4][2];
    const uint32_t *b[4];
    UNROLL for (int q = 0; q < 4; q++) {
      acc[q][0] = acc[q][1] = (vf){0};
      b[q] = packed + (j + q * NR < n ? j + q * NR : j) * pairs;
    }
    for (long p = 0; p < pairs; p++) {
      uint32_t x = a[p];
      UNROLL for (int q = 0; q < 4; q++) {
        acc[q][0] = dot_pairs(acc[q][0], x, load_u(b[q] + p * NR));
        acc[q][1] = dot_pairs(acc[q][1], x, load_u(b[q] + p * NR + VL));
      }
    }
    for (long q = 0; q < 4 && j + q * NR < n; q++) {
      long left = n - j - q * NR;
      finish_tile(e, kind, acc + q, 1, 1, left < NR ? left : NR, 0, j + q * NR, c, ldc);
    }
  }
}

static void bf16_gemm_epilogue(long m, long n, long pairs, const uint32_t *a, long lda,
                               const uint32_t *packed, const rk_epilogue *epilogue, float *c,
                               long ldc) {
  if (m == 1) {
    BY_KIND(bf16_one_row, n, pairs, a, packed)
  } else {
    BY_KIND(bf16_gemm_finished, m, n, pairs, a, lda, packed)
  }
}

static void bf16_gemm_exp(long m, long n, long pairs, const uint32_t *a, long lda,
                          const uint32_t *packed, uint32_t *rows, long row_stride,
                          uint32_t *row_pairs, long pair_stride, float *row_sums) {
  for (long i = 0; i < m; i += MB) {
    long h = m - i < MB ? m - i : MB;
    vf sums[MB];
    UNROLL for (int r = 0; r < MB; r++) sums[r] = (vf){0};
    for (long j = 0; j < n; j += NR) {
      vf acc[MB][2];
      bf16_tile(pairs, a + i * lda, lda, 1, packed + j * pairs, acc, h);
      long w = n - j < NR ? n - j : NR;
      UNROLL for (int r = 0; r < MB; r++) {
        acc[r][0] = exp_bounded_v(acc[r][0]);
        acc[r][1] = exp_bounded_v(acc[r][1]);
      }
      if (h == MB && w == NR) {
        UNROLL for (int r = 0; r < MB; r++) {
          sums[r] += acc[r][0] + acc[r][1];
#if defined(RK_NATIVE_BF16)
          store_u(rows + (i + r) * row_stride + j / 2,
                  (vu)_mm512_cvtne2ps_pbh((__m512)acc[r][1], (__m512)acc[r][0]));
#else
          float buffer[NR];
          store(buffer, acc[r][0]);
          store(buffer + VL, acc[r][1]);
          bf16_rows(1, NR, buffer, NR, rows + (i + r) * row_stride + j / 2, NR);
#endif
        }
        UNROLL for (int r = 0; r < MB; r += 2) {
          uint32_t *to = row_pairs + (i + r) / 2 * pair_stride + j;
          store_u(to, to_pairs(acc[r][0], acc[r + 1][0]));
          store_u(to + VL, to_pairs(acc[r][1], acc[r + 1][1]));
        }
      } else {
        float buffer[MB * NR];
        UNROLL for (int r = 0; r < MB; r++) {
          store(buffer + r * NR, acc[r][0]);
          store(buffer + r * NR + VL, acc[r][1]);
        }
        for (long r = 0; r < h; r++)
          for (long q = 0; q < w; q++) sums[r][0] += buffer[r * NR + q];
        bf16_rows(h, w, buffer, NR, rows + i * row_stride + j / 2, row_stride);
        bf16_row_pairs(h, w, buffer, NR, row_pairs + i / 2 * pair_stride + j, pair_stride);
      }
    }
    for (long r = 0; r < h; r++) row_sums[i + r] = sum_of(sums[r]);
  }
}

// ---- rows --------------------------------------------------------------------------------------

static float dot(const float *a, const float *b, long n) {
  vf s = {0}, t = {0};
  long i = 0;
  for (; i + 2 * VL <= n; i += 2 * VL) {
    s += load(a + i) * load(b + i);
    t += load(a + i + VL) * load(b + i + VL);
  }
  for (; i < n; i += VL) s += get(a, i, n) * get(b, i, n);
  return sum_of(s + t);
}

static void exp_rows(long m, long n, float *c, long ldc, float *row_max, float *row_sums) {
  for (long i = 0; i < m; i++) {
    float *row = c + i * ldc;
    vf high = splat(-INFINITY);
    long j = 0;
    for (; j + VL <= n; j += VL) high = max_f(high, load(row + j));
    float max = max_of(high);
    for (; j < n; j++) max = row[j] > max ? row[j] : max;
    vf sums = {0};
    for (j = 0; j + VL <= n; j += VL) {
      vf e = exp_v(load(row + j) - splat(max));
      store(row + j, e);
      sums += e;
    }
    float rest = 0;
    if (j < n) {
      vf e = exp_v(load_n(row + j, n - j) - splat(max));
      store_n(row + j, e, n - j);
      for (; j < n; j++) rest += row[j];
    }
    row_max[i] = max;
    row_sums[i] = sum_of(sums) + rest;
  }
}

// log(1 + x) for x in 0...1, by the series of atanh: log(1 + x) = 2 atanh(x / (2 + x)), whose
// argument is at most 1/3.
INLINE vf log1p_v(vf x) {
  vf z = x / (x + splat(2.0f)), w = z * z;
  vf p = splat(1.0f / 13);
  p = p * w + splat(1.0f / 11);
  p = p * w + splat(1.0f / 9);
  p = p * w + splat(1.0f / 7);
  p = p * w + splat(1.0f / 5);
  p = p * w + splat(1.0f / 3);
  p = p * w + splat(1.0f);
  return splat(2.0f) * z * p;
}

static void logistic_rows(long m, long n, float *c, long ldc, float *row_losses) {
  for (long i = 0; i < m; i++) {
    float *row = c + i * ldc;
    vf losses = {0};
    float rest = 0;
    FOR_VECTORS(n) {
      vf s = get(row, i_, n);
      vf e = exp_v(-(vf)((vi)s & 0x7fffffff));
      vf loss = max_f(s, splat(0)) + log1p_v(e);
      vf upper = splat(1.0f) / (splat(1.0f) + e);
      put(row, i_, n, select_f(s >= splat(0), upper, e * upper));
      if (i_ + VL <= n)
        losses += loss;
      else
        for (long q = 0; q < n - i_; q++) rest += loss[q];
    }
    row_losses[i] = sum_of(losses) + rest;
  }
}

static long count_at_least(const float *row, long n, float threshold) {
  vi counts = {0};
  long i = 0, count = 0;
  for (; i + VL <= n; i += VL) counts -= (vi)(load(row + i) >= splat(threshold));
  for (int l = 0; l < VL; l++) count += counts[l];
  for (; i < n; i++) count += row[i] >= threshold;
  return count;
}

static void axpy(long n, float alpha, const float *x, float *y) {
  FOR_VECTORS(n) put(y, i_, n, get(y, i_, n) + splat(alpha) * get(x, i_, n));
}

// With y and a row in registers: `vectors` of them, known where this is inlined.
INLINE void add_weighted_whole_rows(int vectors, long m, const float *v, const float *a,
                                    const float *c, const float *x, float *y) {
  vf sums[8], row[8];
  for (int q = 0; q < vectors; q++) sums[q] = load(y + q * VL);
  for (long k = 0; k < m; k++, v += vectors * VL) {
    for (int q = 0; q < vectors; q++) row[q] = load(v + q * VL);
    float weight = a ? a[k] : 0;
    if (c) {
      vf products = row[0] * load(x);
      for (int q = 1; q < vectors; q++) products += row[q] * load(x + q * VL);
      weight += c[k] * sum_of(products);
    }
    for (int q = 0; q < vectors; q++) sums[q] += splat(weight) * row[q];
  }
  for (int q = 0; q < vectors; q++) store(y + q * VL, sums[q]);
}

static void add_weighted_rows(long m, long n, const float *v, const float *a, const float *c,
                              const float *x, float *y) {
  switch (n % VL ? 0 : n / VL) {
  case 1: add_weighted_whole_rows(1, m, v, a, c, x, y); return;
  case 2: add_weighted_whole_rows(2, m, v, a, c, x, y); return;
  case 3: add_weighted_whole_rows(3, m, v, a, c, x, y); return;
  case 4: add_weighted_whole_rows(4, m, v, a, c, x, y); return;
  case 5: add_weighted_whole_rows(5, m, v, a, c, x, y); return;
  case 6: add_weighted_whole_rows(6, m, v, a, c, x, y); return;
  case 7: add_weighted_whole_rows(7, m, v, a, c, x, y); return;
  case 8: add_weighted_whole_rows(8, m, v, a, c, x, y); return;
  default:
    for (long k = 0; k < m; k++, v += n)
      axpy(n, (a ? a[k] : 0) + (c ? c[k] * dot(v, x, n) : 0), v, y);
  }
}

static void blend(long n, float share, const float *x, float *y) {
  FOR_VECTORS(n) {
    vf old = get(y, i_, n);
    put(y, i_, n, old + splat(share) * (get(x, i_, n) - old));
  }
}

static void scale_rows(long m, long n, const float *factors, const float *x, float *out) {
  for (long i = 0; i < m; i++) {
    const float *from = x + i * n;
    float *to = out + i * n;
    FOR_VECTORS(n) put(to, i_, n, splat(factors[i]) * get(from, i_, n));
  }
}

static void column_sums(long m, long n, const float *x, float *sums) {
  FOR_VECTORS(n) {
    vf s = get(sums, i_, n);
    if (i_ + VL <= n)
      for (long r = 0; r < m; r++) s += load(x + r * n + i_);
    else
      for (long r = 0; r < m; r++) s += load_n(x + r * n + i_, n - i_);
    put(sums, i_, n, s);
  }
}

// ---- layers ------------------------------------------------------------------------------------

// `rows` rows side by side, a constant: the sums of one would wait for each other.
INLINE void layer_norm_rows(int rows, long n, float epsilon, const float *x, const float *gamma,
                            const float *beta, float *y, float *mean, float *inverse_deviation) {
  vf s[4], q[4];
  float centre[4], squares[4], inverse[4];
  UNROLL for (int r = 0; r < rows; r++) s[r] = q[r] = (vf){0};
  FOR_VECTORS(n) {
    UNROLL for (int r = 0; r < rows; r++) s[r] += get(x + r * n, i_, n);
  }
  UNROLL for (int r = 0; r < rows; r++) centre[r] = sum_of(s[r]) / (float)n;
  long j = 0;
  for (; j + VL <= n; j += VL) {
    UNROLL for (int r = 0; r < rows; r++) {
      vf z = load(x + r * n + j) - splat(centre[r]);
      q[r] += z * z;
    }
  }
  UNROLL for (int r = 0; r < rows; r++) squares[r] = sum_of(q[r]);
  for (; j < n; j++)
    for (int r = 0; r < rows; r++)
      squares[r] += (x[r * n + j] - centre[r]) * (x[r * n + j] - centre[r]);
  UNROLL for (int r = 0; r < rows; r++)
    inverse[r] = 1.0f / sqrtf(squares[r] / (float)n + epsilon);
  FOR_VECTORS(n) {
    vf g = get(gamma, i_, n), b = get(beta, i_, n);
    UNROLL for (int r = 0; r < rows; r++)
      put(y + r * n, i_, n, (get(x + r * n, i_, n) - splat(centre[r])) * splat(inverse[r]) * g + b);
  }
  for (int r = 0; r < rows; r++) {
    mean[r] = centre[r];
    inverse_deviation[r] = inverse[r];
  }
}

static void layer_norm(long m, long n, float epsilon, const float *x, const float *gamma,
                       const float *beta, float *y, float *mean, float *inverse_deviation) {
  long r = 0;
  for (; r + 4 <= m; r += 4)
    layer_norm_rows(4, n, epsilon, x + r * n, gamma, beta, y + r * n, mean + r,
                    inverse_deviation + r);
  for (; r < m; r++)
    layer_norm_rows(1, n, epsilon, x + r * n, gamma, beta, y + r * n, mean + r,
                    inverse_deviation + r);
}

static void layer_norm_backward(long m, long n, const float *dy, const float *x,
                                const float *gamma, const float *mean,
                                const float *inverse_deviation, int accumulate, float *dx,
                                float *dgamma, float *dbeta) {
  for (long r = 0; r < m; r++) {
    const float *row = x + r * n, *e = dy + r * n;
    float *out = dx + r * n;
    vf centre = splat(mean[r]), inverse = splat(inverse_deviation[r]);
    vf a = {0}, c = {0};
    FOR_VECTORS(n) {
      vf d = get(e, i_, n), h = (get(row, i_, n) - centre) * inverse;
      vf w = d * get(gamma, i_, n);
      a += w;
      c += w * h;
      put(dgamma, i_, n, get(dgamma, i_, n) + d * h);
      put(dbeta, i_, n, get(dbeta, i_, n) + d);
    }
    vf first = splat(sum_of(a) / (float)n), second = splat(sum_of(c) / (float)n);
    FOR_VECTORS(n) {
      vf h = (get(row, i_, n) - centre) * inverse;
      vf v = inverse * (get(e, i_, n) * get(gamma, i_, n) - first - h * second);
      put(out, i_, n, accumulate ? get(out, i_, n) + v : v);
    }
  }
}

static void rms_norm(long m, long n, float epsilon, const float *x, const float *gamma, float *y,
                     float *inverse) {
  for (long r = 0; r < m; r++) {
    const float *row = x + r * n;
    float *out = y + r * n, i = 1.0f / sqrtf(dot(row, row, n) / (float)n + epsilon);
    FOR_VECTORS(n) put(out, i_, n, get(row, i_, n) * splat(i) * get(gamma, i_, n));
    inverse[r] = i;
  }
}

static void rms_norm_backward(long m, long n, const float *dy, const float *x, const float *gamma,
                              const float *inverse, int accumulate, float *dx, float *dgamma) {
  for (long r = 0; r < m; r++) {
    const float *row = x + r * n, *e = dy + r * n;
    float *out = dx + r * n;
    vf i = splat(inverse[r]), c = {0};
    FOR_VECTORS(n) {
      vf d = get(e, i_, n), h = get(row, i_, n) * i;
      c += d * get(gamma, i_, n) * h;
      put(dgamma, i_, n, get(dgamma, i_, n) + d * h);
    }
    vf mean = splat(sum_of(c) / (float)n);
    FOR_VECTORS(n) {
      vf v = i * (get(e, i_, n) * get(gamma, i_, n) - get(row, i_, n) * i * mean);
      put(out, i_, n, accumulate ? get(out, i_, n) + v : v);
    }
  }
}

static void multiply(long count, const float *a, const float *b, float *out) {
  FOR_VECTORS(count) put(out, i_, count, get(a, i_, count) * get(b, i_, count));
}

static void apply_dropout(long count, const float *x, rk_dropout dropout, float *out) {
  if (!dropout.threshold) {
    if (out != x) memcpy(out, x, (size_t)count * 4);
    return;
  }
  FOR_VECTORS(count) put(out, i_, count, get(x, i_, count) * keep_v(i_, dropout));
}

static void embed(long count, long n, const int32_t *tokens, const int32_t *places,
                  const float *items, const float *positions, rk_dropout dropout, float *out) {
  for (long t = 0; t < count; t++) {
    const float *item = items + tokens[t] * n, *position = positions + places[t] * n;
    float *to = out + t * n;
    FOR_VECTORS(n) {
      vf v = get(item, i_, n) + get(position, i_, n);
      if (dropout.threshold) v *= keep_v(t * n + i_, dropout);
      put(to, i_, n, v);
    }
  }
}

static void embed_backward(long count, long n, const int32_t *tokens, const int32_t *places,
                           const float *d, rk_dropout dropout, float *ditems, float *dpositions) {
  for (long t = 0; t < count; t++) {
    float *item = ditems + tokens[t] * n, *position = dpositions + places[t] * n;
    FOR_VECTORS(n) {
      vf v = get(d + t * n, i_, n);
      if (dropout.threshold) v *= keep_v(t * n + i_, dropout);
      put(item, i_, n, get(item, i_, n) + v);
      put(position, i_, n, get(position, i_, n) + v);
    }
  }
}

// ---- attention ---------------------------------------------------------------------------------

// Query rows are taken in blocks; keys after the block are never multiplied (the causal upper triangle
// is skipped but for the block's own). Scores live in a block of queries x keys only, and the backward
// pass makes the probabilities again from the stored log-sum-exp (as FlashAttention does: Dao et al.
// 2022, section 3.1).
//
// Forward, a block is QN queries and its scores are transposed, [keys, QN]: a query is a lane, so
// that maxima and sums over keys need no reduction across lanes. Backward, a block is QB queries.
enum { QB = 4 * MR, QN = 2 * NR };

static long padded(long n) { return (n + NR - 1) / NR * NR; }

static size_t attention_scratch(int width, int longest) {
  long keys = padded(longest);
  return (size_t)(2 * keys * width + (2 * QB + 1) * keys + QN * (keys + width) + KC * NR);
}

// log(x) of a normal x > 0
INLINE vf log_v(vf x) {
  vi bits = (vi)x;
  vf exponent = __builtin_convertvector((bits >> 23) - 127, vf);
  vf mantissa = (vf)((bits & 0x7fffff) | 0x3f800000);
  return exponent * splat(0.69314718f) + log1p_v(mantissa - splat(1.0f));
}

// Turns a vector of queries' scores into exponentials: `s` holds those of key j at s[j * QN], of which
// `all` are seen by every lane, and key all + i by the lanes from i + 1 on, to `seen` keys in all.
// Keys from there to `filled` get zeros.
INLINE void exp_lanes(float *s, long all, long seen, long filled, vf *high, vf *sum) {
  vu lanes = lane_numbers();
  vf high0 = splat(-INFINITY), high1 = high0, sum0 = {0}, sum1 = {0};
  long j = 0;
  for (; j + 2 <= all; j += 2) {
    high0 = max_f(high0, load(s + j * QN));
    high1 = max_f(high1, load(s + j * QN + QN));
  }
  if (j < all) high0 = max_f(high0, load(s + j * QN));
  for (j = all; j < seen; j++) {
    vi sees = (vi)(lanes > (uint32_t)(j - all));
    high1 = max_f(high1, select_f(sees, load(s + j * QN), splat(-INFINITY)));
  }
  vf most = max_f(high0, high1);
  for (j = 0; j + 2 <= all; j += 2) {
    vf x = exp_v(load(s + j * QN) - most), y = exp_v(load(s + j * QN + QN) - most);
    store(s + j * QN, x);
    store(s + j * QN + QN, y);
    sum0 += x;
    sum1 += y;
  }
  if (j < all) {
    vf x = exp_v(load(s + j * QN) - most);
    store(s + j * QN, x);
    sum0 += x;
  }
  for (j = all; j < seen; j++) {
    vi sees = (vi)(lanes > (uint32_t)(j - all));
    vf x = select_f(sees, exp_v(load(s + j * QN) - most), splat(0));
    store(s + j * QN, x);
    sum0 += x;
  }
  for (; j < filled; j++) store(s + j * QN, splat(0));
  *high = most;
  *sum = sum0 + sum1;
}

static void attention(const float *qkv, int heads, int width, int causal, const int32_t *offsets,
                      int sequences, float *out, float *lse, float *scratch) {
  long d = (long)heads * width, ld = 3 * d;
  float scale = 1 / sqrtf((float)width);
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first;
    float *packed_q = scratch, *scores = packed_q + QN * width, *rest = scores + QN * padded(length);
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * ld + h * width, *k = q + d, *v = k + d;
      for (long r = 0; r < length; r += QN) {
        long rows = length - r < QN ? length - r : QN, keys = causal ? r + rows : length;
        float inverse[QN];
        pack(1, rows, width, q + r * ld, ld, packed_q);
        for (long i = 0; i < rows; i += NR) {
          long seen = causal && r + i + NR < keys ? r + i + NR : keys;
          // Whole panels: queries past the end are zeros.
          gemm_packed(seen, NR, width, scale, k, ld, 1, packed_q + i * width, 0, scores + i, QN);
        }
        for (long i = 0; i < rows; i += VL) {
          vf high, sum;
          long all = causal ? r + i + 1 : keys;
          long seen = causal && r + i + VL < keys ? r + i + VL : keys;
          exp_lanes(scores + i, all < keys ? all : keys, seen, keys, &high, &sum);
          vf logs = high + log_v(sum);
          store(inverse + i, splat(1.0f) / sum);
          for (long l = 0; l < VL && i + l < rows; l++)
            lse[(first + r + i + l) * heads + h] = logs[l];
        }
        // Each row group adds up to its own last key.
        for (long i = 0; i < rows; i += MR) {
          long group = rows - i < MR ? rows - i : MR;
          float *o = out + (first + r + i) * d + h * width;
          gemm(group, width, causal ? r + i + group : keys, 1, scores + i, 1, QN, v, ld, 0, o, d, rest);
          for (long l = 0; l < group; l++, o += d) {
            vf factor = splat(inverse[i + l]);
            FOR_VECTORS(width) put(o, i_, width, get(o, i_, width) * factor);
          }
        }
      }
    }
  }
}

static void attention_backward(const float *qkv, const float *out, const float *dout,
                               const float *lse, int heads, int width, int causal,
                               const int32_t *offsets, int sequences, float *dqkv,
                               float *scratch) {
  long d = (long)heads * width, ld = 3 * d;
  float scale = 1 / sqrtf((float)width);
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first, keys = padded(length);
    float *packed_k = scratch, *packed_v = packed_k + keys * width, *p = packed_v + keys * width;
    float *dp = p + QB * keys, *rest = dp + QB * keys;
    for (long t = first; t < first + length; t++) memset(dqkv + t * ld + d, 0, (size_t)(2 * d) * 4);
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * ld + h * width, *k = q + d, *v = k + d;
      float *dq = dqkv + first * ld + h * width, *dk = dq + d, *dv = dk + d;
      pack(1, length, width, k, ld, packed_k);
      pack(1, length, width, v, ld, packed_v);
      for (long r = 0; r < length; r += QB) {
        long rows = length - r < QB ? length - r : QB, seen = causal ? r + rows : length;
        const float *e = dout + (first + r) * d + h * width;
        const float *o = out + (first + r) * d + h * width;
        gemm_packed(rows, seen, width, scale, q + r * ld, ld, 1, packed_k, 0, p, keys);
        gemm_packed(rows, seen, width, 1, e, d, 1, packed_v, 0, dp, keys);
        for (long i = 0; i < rows; i++) {
          float *x = p + i * keys, *y = dp + i * keys;
          long n = causal ? r + i + 1 : length, j = 0;
          vf log_sum = splat(lse[(first + r + i) * heads + h]);
          vf mean = splat(dot(o + i * d, e + i * d, width));
          for (; j < n; j += VL) {
            vf probability = exp_v(load(x + j) - log_sum);
            store(x + j, probability);
            store(y + j, probability * (load(y + j) - mean));
          }
          for (j = n; j < seen; j++) x[j] = y[j] = 0;
        }
        gemm(rows, width, seen, scale, dp, keys, 1, k, ld, 0, dq + r * ld, ld, rest);
        gemm(seen, width, rows, scale, dp, 1, keys, q + r * ld, ld, 1, dk, ld, rest);
        gemm(seen, width, rows, 1, p, 1, keys, e, d, 1, dv, ld, rest);
      }
    }
  }
}

#include "vector_layers.h"

// ---- optimiser -----------------------------------------------------------------------------------

static void adam(long count, float *parameters, const float *gradients, float *first, float *second,
                 float gradient_scale, float rate, float beta1, float beta2, float epsilon,
                 float weight_decay, float correction1, float correction2) {
  for (long i = 0; i < count; i++) {
    float g = gradients[i] * gradient_scale;
    float a = beta1 * first[i] + (1 - beta1) * g;
    float b = beta2 * second[i] + (1 - beta2) * g * g;
    first[i] = a;
    second[i] = b;
    float step = a * correction1 / (sqrtf(b * correction2) + epsilon);
    parameters[i] -= rate * (step + weight_decay * parameters[i]);
  }
}

static double sum_of_squares(long count, const float *x) {
  double total = 0;
  for (long i = 0; i < count; i += 1024) {
    long n = count - i < 1024 ? count - i : 1024;
    total += dot(x + i, x + i, n);
  }
  return total;
}

static double probe(long rounds) {
  enum { CHAINS = 12 };
  vf x[CHAINS], a = splat(0.999f), b = splat(0.001f);
  UNROLL for (int i = 0; i < CHAINS; i++) x[i] = splat((float)i);
  for (long r = 0; r < rounds; r++) {
    UNROLL for (int i = 0; i < CHAINS; i++) x[i] = x[i] * a + b;
    __asm__ volatile("" : "+r"(r));
  }
  volatile float sink = 0;
  UNROLL for (int i = 0; i < CHAINS; i++) sink += sum_of(x[i]);
  return 2.0 * CHAINS * VL * (double)rounds;
}

const rk_table RK_TABLE = {
    .name = RK_NAME,
    .packed_floats = packed_floats,
    .panel_columns = NR,
    .pack = pack,
    .gemm_packed = gemm_packed,
    .gemm_epilogue = gemm_epilogue,
    .gemm = gemm,
    .gemm_scratch = gemm_scratch,
    .gemm_exp = gemm_exp,
#if defined(RK_NATIVE_BF16)
    .native_bf16 = 1,
#else
    .native_bf16 = 0,
#endif
    .bf16_rows = bf16_rows,
    .bf16_row_pairs = bf16_row_pairs,
    .bf16_packed = bf16_packed,
    .bf16_pack = bf16_pack,
    .bf16_gemm = bf16_gemm,
    .bf16_gemm_epilogue = bf16_gemm_epilogue,
    .bf16_gemm_exp = bf16_gemm_exp,
    .exp_rows = exp_rows,
    .logistic_rows = logistic_rows,
    .count_at_least = count_at_least,
    .dot = dot,
    .axpy = axpy,
    .add_weighted_rows = add_weighted_rows,
    .blend = blend,
    .scale_rows = scale_rows,
    .column_sums = column_sums,
    .layer_norm = layer_norm,
    .layer_norm_backward = layer_norm_backward,
    .rms_norm = rms_norm,
    .rms_norm_backward = rms_norm_backward,
    .multiply = multiply,
    .apply_dropout = apply_dropout,
    .embed = embed,
    .embed_backward = embed_backward,
    .unit_rows = unit_rows,
    .unit_rows_backward = unit_rows_backward,
    .gate = gate,
    .gate_backward = gate_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .gru = gru,
    .gru_backward = gru_backward,
    .attention = attention,
    .attention_backward = attention_backward,
    .silu_attention = silu_attention,
    .silu_attention_backward = silu_attention_backward,
    .attention_scratch = attention_scratch,
    .adam = adam,
    .sum_of_squares = sum_of_squares,
    .probe = probe,
};
