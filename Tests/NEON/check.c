// Question: do the NEON kernels compute what the plain reference computes?
//
// Built for arm64 and run there, or under emulation, by scripts/check-neon.sh. It compares the portable
// table, which is NEON on arm64, with the reference table over odd sizes, and prints the largest relative
// error of each kernel. The full differential tests are Tests/KernelsTests, in Swift.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "riffle_kernels.h"

extern const rk_table rk_reference;
extern const rk_table rk_portable;

static uint64_t state = 7;
static float uniform(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (float)(int32_t)(state >> 32) / 2147483648.0f;
}
static float *values(long count) {
  float *x = malloc(sizeof(float) * (count + 64));
  for (long i = 0; i < count + 64; i++) x[i] = uniform();
  return x;
}
static float *copy(const float *x, long count) {
  float *y = malloc(sizeof(float) * (count + 64));
  memcpy(y, x, sizeof(float) * (count + 64));
  return y;
}

static int failures = 0;
static void compare(const char *name, const float *a, const float *b, long count, float limit) {
  float most = 0, size = 1e-3f;
  for (long i = 0; i < count; i++) size = fmaxf(size, fabsf(a[i]));
  for (long i = 0; i < count; i++) {
    float error = fabsf(a[i] - b[i]) / size;
    if (!(error <= most)) most = error;
  }
  int bad = !(most <= limit);
  failures += bad;
  printf("%-28s %.2e%s\n", name, most, bad ? "  TOO LARGE" : "");
}

static void products(long m, long n, long k) {
  const rk_table *r = &rk_reference, *p = &rk_portable;
  float *a = values(m * k), *b = values(n * k), *bias = values(n), *residual = values(m * n);
  for (int transposed = 0; transposed < 2; transposed++) {
    float *c[2], *slopes[2], *sums[2];
    for (int which = 0; which < 2; which++) {
      const rk_table *t = which ? p : r;
      float *packed = calloc(t->packed_floats(n, k) + 64, sizeof(float));
      t->pack(transposed, n, k, b, transposed ? k : n, packed);
      c[which] = copy(residual, m * n);
      t->gemm_packed(m, n, k, 0.5f, a, k, 1, packed, 1, c[which], n);
      slopes[which] = values(m * n);
      sums[which] = calloc(m + 64, sizeof(float));
      free(packed);
    }
    compare("gemm_packed", c[0], c[1], m * n, 1e-5f);
    for (int kind = 0; kind < 3; kind++)
      for (int activation = 0; activation < (kind == rk_bias_activation ? 3 : 1); activation++) {
        for (int which = 0; which < 2; which++) {
          const rk_table *t = which ? p : r;
          float *packed = calloc(t->packed_floats(n, k) + 64, sizeof(float));
          t->pack(transposed, n, k, b, transposed ? k : n, packed);
          rk_epilogue e = {kind, activation, bias, residual, slopes[which],
                           {11, 1 << 22, 1.25f}, n};
          t->gemm_epilogue(m, n, k, a, k, packed, &e, c[which], n);
          free(packed);
        }
        compare("gemm_epilogue", c[0], c[1], m * n, 1e-5f);
        if (kind == rk_bias_activation) compare("slopes", slopes[0], slopes[1], m * n, 2e-5f);
      }
    for (int which = 0; which < 2; which++) {
      const rk_table *t = which ? p : r;
      float *packed = calloc(t->packed_floats(n, k) + 64, sizeof(float));
      t->pack(transposed, n, k, b, transposed ? k : n, packed);
      t->gemm_exp(m, n, k, a, k, packed, c[which], n, sums[which]);
      free(packed);
    }
    compare("gemm_exp", c[0], c[1], m * n, 1e-4f);
    compare("gemm_exp sums", sums[0], sums[1], m, 1e-4f);
    long pairs = (k + 1) / 2;
    for (int which = 0; which < 2; which++) {
      const rk_table *t = which ? p : r;
      uint32_t *rows = calloc(m * pairs + 64, 4), *packed = calloc(t->bf16_packed(n, k) + 64, 4);
      t->bf16_rows(m, k, a, k, rows, pairs);
      t->bf16_pack(transposed, n, k, b, transposed ? k : n, packed);
      t->bf16_gemm(m, n, pairs, 1, rows, pairs, 1, packed, 0, c[which], n);
      free(rows);
      free(packed);
    }
    compare("bf16_gemm", c[0], c[1], m * n, 1e-5f);
  }
  float *c[2];
  for (int which = 0; which < 2; which++) {
    const rk_table *t = which ? p : r;
    float *scratch = calloc(t->gemm_scratch(k) + 64, sizeof(float));
    c[which] = copy(residual, m * n);
    t->gemm(m, n, k, 1, a, k, 1, b, n, 1, c[which], n, scratch);
  }
  compare("gemm", c[0], c[1], m * n, 1e-5f);
}

static void rows(long m, long n) {
  const rk_table *r = &rk_reference, *p = &rk_portable;
  long count = m * n;
  float *x = values(count * 3), *y = values(count * 3), *gamma = values(n * 3), *beta = values(n);
  float *out[2], *one[2], *two[2], *three[2], *four[2];
#define EACH for (int w = 0; w < 2; w++)
#define T (w ? p : r)
  EACH { out[w] = copy(x, count * 3); one[w] = values(count * 3); two[w] = values(count * 3); three[w] = copy(gamma, n * 3); four[w] = copy(beta, n); }
  EACH T->exp_rows(m, n, out[w], n, one[w], two[w]);
  compare("exp_rows", out[0], out[1], count, 1e-5f);
  compare("exp_rows sums", two[0], two[1], m, 1e-5f);
  EACH { memcpy(out[w], x, sizeof(float) * count); T->logistic_rows(m, n, out[w], n, one[w]); }
  compare("logistic_rows", out[0], out[1], count, 1e-5f);
  compare("logistic_rows losses", one[0], one[1], m, 1e-5f);
  if (r->count_at_least(x, count, 0.1f) != p->count_at_least(x, count, 0.1f)) {
    puts("count_at_least differs");
    failures++;
  }
  EACH out[w][0] = T->dot(x, y, count);
  compare("dot", out[0], out[1], 1, 1e-4f);
  EACH { memcpy(out[w], x, sizeof(float) * count); T->axpy(count, 0.3f, y, out[w]); T->blend(count, 0.2f, y, out[w]); }
  compare("axpy, blend", out[0], out[1], count, 1e-6f);
  EACH { T->scale_rows(m, n, y, x, out[w]); T->column_sums(m, n, out[w], three[w]); }
  compare("scale_rows", out[0], out[1], count, 1e-6f);
  compare("column_sums", three[0], three[1], n, 1e-5f);
  EACH { T->layer_norm(m, n, 1e-5f, x, gamma, beta, out[w], one[w], two[w]); }
  compare("layer_norm", out[0], out[1], count, 1e-5f);
  EACH { memcpy(three[w], gamma, sizeof(float) * n); T->layer_norm_backward(m, n, y, x, gamma, one[w], two[w], 0, out[w], three[w], four[w]); }
  compare("layer_norm_backward", out[0], out[1], count, 1e-4f);
  compare("layer_norm_backward gamma", three[0], three[1], n, 1e-4f);
  EACH T->rms_norm(m, n, 1e-5f, x, gamma, out[w], one[w]);
  compare("rms_norm", out[0], out[1], count, 1e-5f);
  EACH { memcpy(three[w], gamma, sizeof(float) * n); T->rms_norm_backward(m, n, y, x, gamma, one[w], 0, out[w], three[w]); }
  compare("rms_norm_backward", out[0], out[1], count, 1e-4f);
  rk_dropout dropout = {5, 1 << 22, 1.25f};
  EACH { T->multiply(count, x, y, out[w]); T->apply_dropout(count, out[w], dropout, out[w]); }
  compare("multiply, dropout", out[0], out[1], count, 1e-6f);
  EACH T->unit_rows(m, n, 2, x, out[w], one[w]);
  compare("unit_rows", out[0], out[1], count, 1e-5f);
  EACH T->unit_rows_backward(m, n, 2, y, x, one[w], 0, out[w]);
  compare("unit_rows_backward", out[0], out[1], count, 1e-4f);
  EACH T->gate(count, x, x + count, y, dropout, out[w]);
  compare("gate", out[0], out[1], count, 1e-5f);
  EACH T->gate_backward(count, x, x + count, y, dropout, one[w], out[w]);
  compare("gate_backward", one[0], one[1], count, 1e-5f);
  EACH T->swiglu(m, n, x, dropout, out[w]);
  compare("swiglu", out[0], out[1], count, 1e-5f);
  EACH T->swiglu_backward(m, n, y, x, dropout, out[w]);
  compare("swiglu_backward", out[0], out[1], 2 * count, 1e-5f);
  float *before = values(count);
  EACH T->gru(m, n, x, y, before, one[w], out[w]);
  compare("gru", out[0], out[1], count, 1e-5f);
  EACH T->gru_backward(m, n, x, one[w], y, before, out[w], two[w], copy(x, count));
  compare("gru_backward", out[0], out[1], 3 * count, 1e-5f);
  float *state[2];
  EACH { out[w] = copy(x, count); one[w] = calloc(count + 64, 4); two[w] = calloc(count + 64, 4); state[w] = out[w];
    for (int step = 1; step < 4; step++)
      T->adam(count, out[w], y, one[w], two[w], 0.9f, 1e-2f, 0.9f, 0.98f, 1e-8f, 0.01f, 1 / (1 - powf(0.9f, step)), 1 / (1 - powf(0.98f, step)));
  }
  compare("adam", state[0], state[1], count, 1e-5f);
  float squares[2];
  EACH squares[w] = (float)T->sum_of_squares(count, x);
  compare("sum_of_squares", squares, squares + 1, 1, 1e-5f);
}

static void attention(int heads, int width, int causal) {
  const rk_table *r = &rk_reference, *p = &rk_portable;
  int32_t offsets[] = {0, 1, 8, 41, 60};
  long tokens = 60, d = heads * width;
  float *qkv = values(tokens * 3 * d), *dout = values(tokens * d), *distances = values(64);
  float *out[2], *lse[2], *dqkv[2], *dd[2];
  EACH {
    float *scratch = calloc(T->attention_scratch(width, 40) + 4096, sizeof(float));
    out[w] = values(tokens * d); lse[w] = values(tokens * heads); dqkv[w] = values(tokens * 3 * d);
    T->attention(qkv, heads, width, causal, offsets, 4, out[w], lse[w], scratch);
    T->attention_backward(qkv, out[w], dout, lse[w], heads, width, causal, offsets, 4, dqkv[w], scratch);
  }
  compare(causal ? "attention" : "attention, both ways", out[0], out[1], tokens * d, 1e-5f);
  compare("attention lse", lse[0], lse[1], tokens * heads, 1e-5f);
  compare("attention_backward", dqkv[0], dqkv[1], tokens * 3 * d, 1e-4f);
  EACH {
    float *scratch = calloc(T->attention_scratch(width, 40) + 4096, sizeof(float));
    dd[w] = calloc(64, sizeof(float));
    T->silu_attention(qkv, 3 * d, heads, width, offsets, 4, 40, distances, 0, 0, out[w], scratch);
    T->silu_attention_backward(qkv, 3 * d, dout, heads, width, offsets, 4, 40, distances, 0, 0, dqkv[w], dd[w], 0, scratch);
  }
  compare("silu_attention", out[0], out[1], tokens * d, 1e-5f);
  compare("silu_attention_backward", dqkv[0], dqkv[1], tokens * 3 * d, 1e-4f);
  compare("silu_attention distances", dd[0], dd[1], 40, 1e-4f);
}

int main(void) {
  long sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {13, 33, 64}, {47, 129, 65}, {12, 64, 128}};
  for (int i = 0; i < 5; i++) products(sizes[i][0], sizes[i][1], sizes[i][2]);
  rows(3, 7);
  rows(17, 64);
  rows(9, 131);
  attention(1, 8, 1);
  attention(2, 32, 1);
  attention(2, 17, 0);
  printf("%s: %d kernels differ\n", rk_portable.name, failures);
  return failures != 0;
}
