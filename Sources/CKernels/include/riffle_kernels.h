// The arithmetic of Riffle: free functions over buffers, in several versions that do the same.
//
// `reference` is written plainly and is what the others are tested against; `portable` uses clang's
// vector types at 128 bits (SSE2, NEON); `avx2`, `avx512` and `avx512bf16` are the same source
// at 256 and 512 bits, the last with bfloat16 products in hardware. One table of function pointers is picked at start by what the processor can do.
//
// Matrices are row-major. No function allocates; `scratch` is the caller's, of the stated size.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// How an activation is applied: `rk_gelu` is x * Phi(x) with the exact normal distribution function,
// `rk_silu` is x / (1 + exp(-x)).
enum { rk_relu = 0, rk_gelu = 1, rk_silu = 2 };

// Dropout of a buffer: element i is kept where hash(i + seed) >= threshold, and then multiplied by
// scale. Counter-based, so the backward pass makes the same mask again. threshold 0 keeps all.
typedef struct {
  uint32_t seed;
  uint32_t threshold;  // the probability of dropping times 2^24
  float scale;         // 1 / (1 - probability)
} rk_dropout;

// What happens to a product before it leaves the registers.
enum {
  rk_add_bias = 0,           // c = x + bias
  rk_bias_dropout_add = 1,   // c = residual + dropout(x + bias)
  rk_bias_activation = 2,    // c = dropout(activation(x + bias)), slopes = dc/dx where not null
};
typedef struct {
  int kind;
  int activation;
  const float *bias;      // one for each column
  const float *residual;  // laid out as c, and may be c
  float *slopes;          // laid out as c
  rk_dropout dropout;     // element i * columns + j for row i, column j
  long columns;
} rk_epilogue;

typedef struct {
  const char *name;

  // ---- matrix products -------------------------------------------------------------------------
  // Floats that a packed k x n matrix takes.
  size_t (*packed_floats)(long n, long k);
  // Columns of a panel: panel p of a packed matrix begins at p * panel_columns * k. 0 where packed
  // matrices have no panels.
  long panel_columns;
  // Packs B (k x n, or n x k where `transposed`) into column panels.
  void (*pack)(int transposed, long n, long k, const float *b, long ldb, float *packed);
  // C (m x n) = alpha * A * B, or += where `accumulate`. Element (i, p) of A is at
  // a[i * row_stride + p * column_stride], so a transposed A needs no copy.
  void (*gemm_packed)(long m, long n, long k, float alpha, const float *a, long row_stride,
                      long column_stride, const float *packed, int accumulate, float *c, long ldc);
  // C = epilogue(A * B) with A by rows.
  void (*gemm_epilogue)(long m, long n, long k, const float *a, long lda, const float *packed,
                        const rk_epilogue *epilogue, float *c, long ldc);
  // The same with B (k x n) read where it stands. `scratch`: gemm_scratch(k) floats.
  void (*gemm)(long m, long n, long k, float alpha, const float *a, long row_stride,
               long column_stride, const float *b, long ldb, int accumulate, float *c, long ldc,
               float *scratch);
  size_t (*gemm_scratch)(long k);
  // C = exp(A * B), and row_sums[i] = the sum of row i of C. No shift is subtracted: the caller
  // knows that every product is within +-60.
  void (*gemm_exp)(long m, long n, long k, const float *a, long lda, const float *packed, float *c,
                   long ldc, float *row_sums);

  // ---- matrix products of bfloat16, added up in float -------------------------------------------
  // A bfloat16 is the upper half of a float, rounded to nearest even. Operands hold pairs along k in
  // 32 bits, the even one in the lower half; an odd k is filled up with zero.
  //
  // 1 where the processor multiplies pairs itself; elsewhere the same is done with floats.
  int native_bf16;
  // Rows: out[i * stride + p / 2] holds elements p and p + 1 of row i (m x k).
  void (*bf16_rows)(long m, long k, const float *x, long ldx, uint32_t *out, long stride);
  // Pairs of rows: out[p / 2 * stride + j] holds elements j of rows p and p + 1 (k x n).
  void (*bf16_row_pairs)(long k, long n, const float *x, long ldx, uint32_t *out, long stride);
  // Pairs that a packed k x n matrix takes, and the packing (n x k where `transposed`).
  size_t (*bf16_packed)(long n, long k);
  void (*bf16_pack)(int transposed, long n, long k, const float *b, long ldb, uint32_t *packed);
  // C (m x n) = alpha * A * B, or +=. Pair (i, p) of A is at a[i * row_stride + p * column_stride];
  // pairs = (k + 1) / 2.
  void (*bf16_gemm)(long m, long n, long pairs, float alpha, const uint32_t *a, long row_stride,
                    long column_stride, const uint32_t *packed, int accumulate, float *c, long ldc);
  // C = epilogue(A * B) with A by rows.
  void (*bf16_gemm_epilogue)(long m, long n, long pairs, const uint32_t *a, long lda,
                             const uint32_t *packed, const rk_epilogue *epilogue, float *c,
                             long ldc);
  // exp(A * B) with its row sums (of the floats, before rounding), written in bfloat16 twice: by
  // rows (`rows`, stride in pairs, for products that add over columns) and by pairs of rows
  // (`row_pairs`, for products that add over rows). An odd last row is paired with zeros, columns
  // past n up to the stride of `rows` must not matter to the caller.
  void (*bf16_gemm_exp)(long m, long n, long pairs, const uint32_t *a, long lda,
                        const uint32_t *packed, uint32_t *rows, long row_stride,
                        uint32_t *row_pairs, long pair_stride, float *row_sums);

  // ---- rows ------------------------------------------------------------------------------------
  // Row-wise c[i][j] = exp(c[i][j] - max of row i); row_max and row_sums get the maximum and sum.
  void (*exp_rows)(long m, long n, float *c, long ldc, float *row_max, float *row_sums);
  // In place c[i][j] = 1 / (1 + exp(-c[i][j])), and row_losses[i] = the sum of log(1 + exp(c[i][j]))
  // of what stood there before.
  void (*logistic_rows)(long m, long n, float *c, long ldc, float *row_losses);
  // The number of elements of a row that are >= threshold.
  long (*count_at_least)(const float *row, long n, float threshold);
  float (*dot)(const float *a, const float *b, long n);
  // y += alpha * x
  void (*axpy)(long n, float alpha, const float *x, float *y);
  // y += the sum over the rows of v (m x n) of (a[k] + c[k] * (row k . x)) * row k. Either of a and c
  // may be NULL for zeros; x is read where c is given.
  void (*add_weighted_rows)(long m, long n, const float *v, const float *a, const float *c,
                            const float *x, float *y);
  // y += share * (x - y)
  void (*blend)(long n, float share, const float *x, float *y);
  // Row i of `out` = factors[i] * row i of `x`, rows of n.
  void (*scale_rows)(long m, long n, const float *factors, const float *x, float *out);
  // sums[j] += the sum of column j of x (m x n)
  void (*column_sums)(long m, long n, const float *x, float *sums);
  // ---- layers ----------------------------------------------------------------------------------
  // y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, row by row
  void (*layer_norm)(long m, long n, float epsilon, const float *x, const float *gamma,
                     const float *beta, float *y, float *mean, float *inverse_deviation);
  // dx (= or +=), dgamma += , dbeta +=
  void (*layer_norm_backward)(long m, long n, const float *dy, const float *x, const float *gamma,
                              const float *mean, const float *inverse_deviation, int accumulate,
                              float *dx, float *dgamma, float *dbeta);
  // y = gamma * x / sqrt(mean of x^2 + epsilon), row by row (Zhang & Sennrich 2019)
  void (*rms_norm)(long m, long n, float epsilon, const float *x, const float *gamma, float *y,
                   float *inverse);
  // dx (= or +=), dgamma +=
  void (*rms_norm_backward)(long m, long n, const float *dy, const float *x, const float *gamma,
                            const float *inverse, int accumulate, float *dx, float *dgamma);
  // out = a * b, element by element; out may be either
  void (*multiply)(long count, const float *a, const float *b, float *out);
  // out = dropout(x); out may be x
  void (*apply_dropout)(long count, const float *x, rk_dropout dropout, float *out);
  // out[t] = dropout(items[tokens[t]] + positions[places[t]])
  void (*embed)(long count, long n, const int32_t *tokens, const int32_t *places,
                const float *items, const float *positions, rk_dropout dropout, float *out);
  // ditems[tokens[t]] += dropout(d[t]); dpositions[places[t]] += the same
  void (*embed_backward)(long count, long n, const int32_t *tokens, const int32_t *places,
                         const float *d, rk_dropout dropout, float *ditems, float *dpositions);

  // y = scale * x / sqrt(sum of x^2 + 1e-12), row by row
  void (*unit_rows)(long m, long n, float scale, const float *x, float *y, float *inverse);
  // dx (= or +=) from dy; `inverse` is what unit_rows gave
  void (*unit_rows_backward)(long m, long n, float scale, const float *dy, const float *x,
                             const float *inverse, int accumulate, float *dx);
  // out = x + sigmoid(g) * dropout(y), element by element; out may be x
  void (*gate)(long count, const float *x, const float *g, const float *y, rk_dropout dropout,
               float *out);
  // dg and dy from dout (dx is dout itself); dy may be dout
  void (*gate_backward)(long count, const float *dout, const float *g, const float *y,
                        rk_dropout dropout, float *dg, float *dy);
  // Rows of a and b side by side (2n): out[i][j] = dropout(silu(a[i][j]) * b[i][j])
  void (*swiglu)(long m, long n, const float *ab, rk_dropout dropout, float *out);
  void (*swiglu_backward)(long m, long n, const float *dout, const float *ab, rk_dropout dropout,
                          float *dab);
  // One step of gated recurrent units (Cho et al. 2014, with the reset gate after the product): x
  // and h are rows of products with their biases, for reset, update and candidate side by side
  // (3n); out = (1 - z) * c + z * before, c = tanh(x_c + r * h_c). gates gets r, z, c.
  void (*gru)(long m, long n, const float *x, const float *h, const float *before, float *gates,
              float *out);
  // dx, dh (3n) and dbefore (only what goes by z) are overwritten
  void (*gru_backward)(long m, long n, const float *dout, const float *gates, const float *h,
                       const float *before, float *dx, float *dh, float *dbefore);

  // ---- attention over packed sequences -----------------------------------------------------------
  // qkv: rows of q, k, v side by side (3 * heads * width). Sequence s is rows offsets[s] up to
  // offsets[s + 1]. A row sees the rows up to itself where `causal`, else all of its sequence. out:
  // rows of heads * width. lse (rows x heads): log of the sum of exponentials.
  void (*attention)(const float *qkv, int heads, int width, int causal, const int32_t *offsets,
                    int sequences, float *out, float *lse, float *scratch);
  // dqkv is overwritten.
  void (*attention_backward)(const float *qkv, const float *out, const float *dout,
                             const float *lse, int heads, int width, int causal,
                             const int32_t *offsets, int sequences, float *dqkv, float *scratch);
  // Causal attention without a softmax (Zhai et al. 2024): the weight of key j for query i is
  // silu(q . k + distances[limit - 1 - (i - j)] + times[buckets[i][j]]) / limit. q, k and v stand at
  // qkv, qkv + d and qkv + 2d in rows of `stride`; no sequence is longer than `limit`. times and
  // buckets may be null; buckets holds a square of length x length for each sequence, in their order.
  void (*silu_attention)(const float *qkv, long stride, int heads, int width,
                         const int32_t *offsets, int sequences, long limit,
                         const float *distances, const float *times, const uint8_t *buckets,
                         float *out, float *scratch);
  // The parts of dqkv for q, k and v are overwritten, ddistances and dtimes added to.
  void (*silu_attention_backward)(const float *qkv, long stride, const float *dout, int heads,
                                  int width, const int32_t *offsets, int sequences, long limit,
                                  const float *distances, const float *times,
                                  const uint8_t *buckets, float *dqkv, float *ddistances,
                                  float *dtimes, float *scratch);
  // Floats of scratch for sequences of up to `longest` rows.
  size_t (*attention_scratch)(int width, int longest);

  // ---- optimiser -------------------------------------------------------------------------------
  // AdamW (Loshchilov & Hutter 2019) with gradients multiplied by gradient_scale first;
  // correction1 = 1 / (1 - beta1^t), correction2 = 1 / (1 - beta2^t).
  void (*adam)(long count, float *parameters, const float *gradients, float *first, float *second,
               float gradient_scale, float rate, float beta1, float beta2, float epsilon,
               float weight_decay, float correction1, float correction2);
  // The sum of squares, in double.
  double (*sum_of_squares)(long count, const float *x);

  // Runs `rounds` rounds of independent multiply-adds in registers; returns the floating-point
  // operations done. What this reaches in a second is the peak that products are measured against.
  double (*probe)(long rounds);
} rk_table;

// The table by name ("reference", "portable", "avx2", "avx512", "avx512bf16"), or NULL where this processor or
// build has no such version. A null name picks the fastest that the processor can run.
const rk_table *rk_select(const char *name);

#ifdef __cplusplus
}
#endif
