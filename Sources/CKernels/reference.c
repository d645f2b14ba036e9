// The plain versions: what each kernel means, in the fewest words. Slow on purpose; sums in double.
#include <math.h>
#include <string.h>

#include "dropout.h"
#include "tables.h"

static size_t packed_floats(long n, long k) { return (size_t)(n * k); }

static void pack(int transposed, long n, long k, const float *b, long ldb, float *packed) {
  for (long p = 0; p < k; p++)
    for (long j = 0; j < n; j++) packed[p * n + j] = transposed ? b[j * ldb + p] : b[p * ldb + j];
}

static size_t gemm_scratch(long k) { return 0 * (size_t)k; }

static void gemm(long m, long n, long k, float alpha, const float *a, long row_stride,
                 long column_stride, const float *b, long ldb, int accumulate, float *c, long ldc,
                 float *scratch) {
  (void)scratch;
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      double sum = 0;
      for (long p = 0; p < k; p++)
        sum += (double)a[i * row_stride + p * column_stride] * b[p * ldb + j];
      c[i * ldc + j] = (float)(alpha * sum + (accumulate ? c[i * ldc + j] : 0));
    }
}

static void gemm_packed(long m, long n, long k, float alpha, const float *a, long row_stride,
                        long column_stride, const float *packed, int accumulate, float *c,
                        long ldc) {
  gemm(m, n, k, alpha, a, row_stride, column_stride, packed, n, accumulate, c, ldc, 0);
}

static float keep(long i, rk_dropout d) {
  return d.threshold ? rk_keep((uint32_t)i, d.seed, d.threshold, d.scale) : 1.0f;
}

static double phi(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }

static double activate(int activation, double x, double *slope) {
  double s;
  switch (activation) {
    case rk_gelu:
      *slope = phi(x) + x * 0.39894228040143267794 * exp(-0.5 * x * x);
      return x * phi(x);
    case rk_silu:
      s = 1 / (1 + exp(-x));
      *slope = s * (1 + x * (1 - s));
      return x * s;
    default:
      *slope = x > 0;
      return x > 0 ? x : 0;
  }
}

static void finish(long m, long n, const rk_epilogue *e, float *c, long ldc, const float *products) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      double x = products[i * n + j] + e->bias[j], slope;
      float kept = keep(i * e->columns + j, e->dropout);
      if (e->kind == rk_bias_dropout_add) {
        x = e->residual[i * ldc + j] + x * kept;
      } else if (e->kind == rk_bias_activation) {
        x = activate(e->activation, x, &slope) * kept;
        if (e->slopes) e->slopes[i * ldc + j] = (float)(slope * kept);
      }
      c[i * ldc + j] = (float)x;
    }
}

static void gemm_epilogue(long m, long n, long k, const float *a, long lda, const float *packed,
                          const rk_epilogue *epilogue, float *c, long ldc) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      float product;
      gemm(1, 1, k, 1, a + i * lda, lda, 1, packed + j, n, 0, &product, 1, 0);
      rk_epilogue one = *epilogue;
      one.bias += j;
      if (one.residual) one.residual += i * ldc + j;
      if (one.slopes) one.slopes += i * ldc + j;
      one.dropout.seed += (uint32_t)(i * one.columns + j);
      finish(1, 1, &one, c + i * ldc + j, ldc, &product);
    }
}

static void gemm_exp(long m, long n, long k, const float *a, long lda, const float *packed,
                     float *c, long ldc, float *row_sums) {
  gemm(m, n, k, 1, a, lda, 1, packed, n, 0, c, ldc, 0);
  for (long i = 0; i < m; i++) {
    double sum = 0;
    for (long j = 0; j < n; j++) sum += c[i * ldc + j] = expf(c[i * ldc + j]);
    row_sums[i] = (float)sum;
  }
}

static void bf16_rows(long m, long k, const float *x, long ldx, uint32_t *out, long stride) {
  for (long i = 0; i < m; i++)
    for (long p = 0; p < k; p += 2)
      out[i * stride + p / 2] =
          rk_bf16(x[i * ldx + p]) | (p + 1 < k ? rk_bf16(x[i * ldx + p + 1]) << 16 : 0);
}

static void bf16_row_pairs(long k, long n, const float *x, long ldx, uint32_t *out, long stride) {
  for (long p = 0; p < k; p += 2)
    for (long j = 0; j < n; j++)
      out[p / 2 * stride + j] =
          rk_bf16(x[p * ldx + j]) | (p + 1 < k ? rk_bf16(x[(p + 1) * ldx + j]) << 16 : 0);
}

static size_t bf16_packed(long n, long k) { return (size_t)(n * ((k + 1) / 2)); }

static void bf16_pack(int transposed, long n, long k, const float *b, long ldb, uint32_t *packed) {
  for (long p = 0; p < k; p += 2)
    for (long j = 0; j < n; j++) {
      float x = transposed ? b[j * ldb + p] : b[p * ldb + j];
      float y = p + 1 == k ? 0 : transposed ? b[j * ldb + p + 1] : b[(p + 1) * ldb + j];
      packed[p / 2 * n + j] = rk_bf16(x) | rk_bf16(y) << 16;
    }
}

static void bf16_gemm(long m, long n, long pairs, float alpha, const uint32_t *a, long row_stride,
                      long column_stride, const uint32_t *packed, int accumulate, float *c,
                      long ldc) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      double sum = 0;
      for (long p = 0; p < pairs; p++) {
        uint32_t x = a[i * row_stride + p * column_stride], y = packed[p * n + j];
        sum += (double)rk_from_bf16(x & 0xffff) * rk_from_bf16(y & 0xffff);
        sum += (double)rk_from_bf16(x >> 16) * rk_from_bf16(y >> 16);
      }
      c[i * ldc + j] = (float)(alpha * sum + (accumulate ? c[i * ldc + j] : 0));
    }
}

static void bf16_gemm_epilogue(long m, long n, long pairs, const uint32_t *a, long lda,
                               const uint32_t *packed, const rk_epilogue *epilogue, float *c,
                               long ldc) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      float product = 0;
      double sum = 0;
      for (long p = 0; p < pairs; p++) {
        uint32_t x = a[i * lda + p], y = packed[p * n + j];
        sum += (double)rk_from_bf16(x & 0xffff) * rk_from_bf16(y & 0xffff);
        sum += (double)rk_from_bf16(x >> 16) * rk_from_bf16(y >> 16);
      }
      product = (float)sum;
      rk_epilogue one = *epilogue;
      one.bias += j;
      if (one.residual) one.residual += i * ldc + j;
      if (one.slopes) one.slopes += i * ldc + j;
      one.dropout.seed += (uint32_t)(i * one.columns + j);
      finish(1, 1, &one, c + i * ldc + j, ldc, &product);
    }
}

static void bf16_gemm_exp(long m, long n, long pairs, const uint32_t *a, long lda,
                          const uint32_t *packed, uint32_t *rows, long row_stride,
                          uint32_t *row_pairs, long pair_stride, float *row_sums) {
  for (long i = 0; i < m; i++) {
    double sum = 0;
    for (long j = 0; j < n; j++) {
      double s = 0;
      for (long p = 0; p < pairs; p++) {
        uint32_t x = a[i * lda + p], y = packed[p * n + j];
        s += (double)rk_from_bf16(x & 0xffff) * rk_from_bf16(y & 0xffff);
        s += (double)rk_from_bf16(x >> 16) * rk_from_bf16(y >> 16);
      }
      float e = expf((float)s);
      sum += e;
      uint32_t half = rk_bf16(e);
      uint32_t *r = rows + i * row_stride + j / 2;
      *r = j % 2 ? (*r & 0xffff) | half << 16 : half;
      uint32_t *t = row_pairs + i / 2 * pair_stride + j;
      *t = i % 2 ? (*t & 0xffff) | half << 16 : half;
    }
    row_sums[i] = (float)sum;
  }
}

static void exp_rows(long m, long n, float *c, long ldc, float *row_max, float *row_sums) {
  for (long i = 0; i < m; i++) {
    float *row = c + i * ldc, max = -INFINITY;
    for (long j = 0; j < n; j++) max = row[j] > max ? row[j] : max;
    double sum = 0;
    for (long j = 0; j < n; j++) sum += row[j] = expf(row[j] - max);
    row_max[i] = max;
    row_sums[i] = (float)sum;
  }
}

static void logistic_rows(long m, long n, float *c, long ldc, float *row_losses) {
  for (long i = 0; i < m; i++) {
    double loss = 0;
    for (long j = 0; j < n; j++) {
      double s = c[i * ldc + j];
      loss += (s > 0 ? s : 0) + log1p(exp(-fabs(s)));
      c[i * ldc + j] = (float)(1 / (1 + exp(-s)));
    }
    row_losses[i] = (float)loss;
  }
}

static long count_at_least(const float *row, long n, float threshold) {
  long count = 0;
  for (long j = 0; j < n; j++) count += row[j] >= threshold;
  return count;
}

static float dot(const float *a, const float *b, long n) {
  double sum = 0;
  for (long i = 0; i < n; i++) sum += (double)a[i] * b[i];
  return (float)sum;
}

static void axpy(long n, float alpha, const float *x, float *y) {
  for (long i = 0; i < n; i++) y[i] += alpha * x[i];
}

static void add_weighted_rows(long m, long n, const float *v, const float *a, const float *c,
                              const float *x, float *y) {
  for (long j = 0; j < n; j++) {
    double sum = y[j];
    for (long k = 0; k < m; k++) {
      double product = 0;
      if (c)
        for (long i = 0; i < n; i++) product += (double)v[k * n + i] * x[i];
      sum += ((a ? a[k] : 0) + (c ? c[k] * product : 0)) * v[k * n + j];
    }
    y[j] = (float)sum;
  }
}

static void blend(long n, float share, const float *x, float *y) {
  for (long i = 0; i < n; i++) y[i] += share * (x[i] - y[i]);
}

static void scale_rows(long m, long n, const float *factors, const float *x, float *out) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) out[i * n + j] = factors[i] * x[i * n + j];
}

static void column_sums(long m, long n, const float *x, float *sums) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) sums[j] += x[i * n + j];
}

static void layer_norm(long m, long n, float epsilon, const float *x, const float *gamma,
                       const float *beta, float *y, float *mean, float *inverse_deviation) {
  for (long i = 0; i < m; i++) {
    const float *row = x + i * n;
    double sum = 0, squares = 0;
    for (long j = 0; j < n; j++) sum += row[j];
    double centre = sum / (double)n;
    for (long j = 0; j < n; j++) squares += (row[j] - centre) * (row[j] - centre);
    double r = 1 / sqrt(squares / (double)n + epsilon);
    for (long j = 0; j < n; j++) y[i * n + j] = (float)((row[j] - centre) * r * gamma[j] + beta[j]);
    mean[i] = (float)centre;
    inverse_deviation[i] = (float)r;
  }
}

static void layer_norm_backward(long m, long n, const float *dy, const float *x,
                                const float *gamma, const float *mean,
                                const float *inverse_deviation, int accumulate, float *dx,
                                float *dgamma, float *dbeta) {
  for (long i = 0; i < m; i++) {
    const float *e = dy + i * n, *row = x + i * n;
    double a = 0, c = 0;
    for (long j = 0; j < n; j++) {
      double h = (row[j] - mean[i]) * inverse_deviation[i], w = e[j] * gamma[j];
      a += w;
      c += w * h;
      dgamma[j] += (float)(e[j] * h);
      dbeta[j] += e[j];
    }
    a /= (double)n;
    c /= (double)n;
    for (long j = 0; j < n; j++) {
      double h = (row[j] - mean[i]) * inverse_deviation[i];
      float v = (float)(inverse_deviation[i] * (e[j] * gamma[j] - a - h * c));
      dx[i * n + j] = accumulate ? dx[i * n + j] + v : v;
    }
  }
}

static void rms_norm(long m, long n, float epsilon, const float *x, const float *gamma, float *y,
                     float *inverse) {
  for (long i = 0; i < m; i++) {
    double squares = 0;
    for (long j = 0; j < n; j++) squares += (double)x[i * n + j] * x[i * n + j];
    double r = 1 / sqrt(squares / (double)n + epsilon);
    for (long j = 0; j < n; j++) y[i * n + j] = (float)(x[i * n + j] * r * gamma[j]);
    inverse[i] = (float)r;
  }
}

static void rms_norm_backward(long m, long n, const float *dy, const float *x, const float *gamma,
                              const float *inverse, int accumulate, float *dx, float *dgamma) {
  for (long i = 0; i < m; i++) {
    double c = 0;
    for (long j = 0; j < n; j++) {
      double h = x[i * n + j] * inverse[i];
      c += dy[i * n + j] * gamma[j] * h;
      dgamma[j] += (float)(dy[i * n + j] * h);
    }
    c /= (double)n;
    for (long j = 0; j < n; j++) {
      double h = x[i * n + j] * inverse[i];
      float v = (float)(inverse[i] * (dy[i * n + j] * gamma[j] - h * c));
      dx[i * n + j] = accumulate ? dx[i * n + j] + v : v;
    }
  }
}

static void multiply(long count, const float *a, const float *b, float *out) {
  for (long i = 0; i < count; i++) out[i] = a[i] * b[i];
}

static void apply_dropout(long count, const float *x, rk_dropout dropout, float *out) {
  for (long i = 0; i < count; i++) out[i] = x[i] * keep(i, dropout);
}

static void embed(long count, long n, const int32_t *tokens, const int32_t *places,
                  const float *items, const float *positions, rk_dropout dropout, float *out) {
  for (long t = 0; t < count; t++)
    for (long j = 0; j < n; j++)
      out[t * n + j] = (items[tokens[t] * n + j] + positions[places[t] * n + j]) *
                       keep(t * n + j, dropout);
}

static void embed_backward(long count, long n, const int32_t *tokens, const int32_t *places,
                           const float *d, rk_dropout dropout, float *ditems, float *dpositions) {
  for (long t = 0; t < count; t++)
    for (long j = 0; j < n; j++) {
      float v = d[t * n + j] * keep(t * n + j, dropout);
      ditems[tokens[t] * n + j] += v;
      dpositions[places[t] * n + j] += v;
    }
}

static size_t attention_scratch(int width, int longest) {
  (void)width;
  return 2 * (size_t)longest;
}

// The probabilities of one query row over its keys.
static void probabilities(const float *q, const float *k, long ld, int width, long keys, float *p,
                          float *lse) {
  double scale = 1 / sqrt((double)width), max = -INFINITY, sum = 0;
  for (long j = 0; j < keys; j++) {
    double s = 0;
    for (int c = 0; c < width; c++) s += (double)q[c] * k[j * ld + c];
    p[j] = (float)(s * scale);
    max = p[j] > max ? p[j] : max;
  }
  for (long j = 0; j < keys; j++) sum += exp(p[j] - max);
  *lse = (float)(max + log(sum));
  for (long j = 0; j < keys; j++) p[j] = (float)(exp(p[j] - max) / sum);
}

static void attention(const float *qkv, int heads, int width, int causal, const int32_t *offsets,
                      int sequences, float *out, float *lse, float *scratch) {
  long d = (long)heads * width, ld = 3 * d;
  for (int s = 0; s < sequences; s++)
    for (int h = 0; h < heads; h++)
      for (long t = offsets[s]; t < offsets[s + 1]; t++) {
        const float *k = qkv + offsets[s] * ld + d + h * width, *v = k + d;
        long keys = (causal ? t + 1 : offsets[s + 1]) - offsets[s];
        probabilities(qkv + t * ld + h * width, k, ld, width, keys, scratch, lse + t * heads + h);
        for (int c = 0; c < width; c++) {
          double sum = 0;
          for (long j = 0; j < keys; j++) sum += (double)scratch[j] * v[j * ld + c];
          out[t * d + h * width + c] = (float)sum;
        }
      }
}

static void attention_backward(const float *qkv, const float *out, const float *dout,
                               const float *lse, int heads, int width, int causal,
                               const int32_t *offsets, int sequences, float *dqkv,
                               float *scratch) {
  (void)lse;
  (void)out;
  long d = (long)heads * width, ld = 3 * d;
  float scale = 1 / sqrtf((float)width);
  memset(dqkv + offsets[0] * ld, 0, sizeof(float) * (size_t)((offsets[sequences] - offsets[0]) * ld));
  for (int s = 0; s < sequences; s++)
    for (int h = 0; h < heads; h++)
      for (long t = offsets[s]; t < offsets[s + 1]; t++) {
        const float *q = qkv + t * ld + h * width;
        const float *k = qkv + offsets[s] * ld + d + h * width, *v = k + d;
        float *dq = dqkv + t * ld + h * width;
        float *dk = dqkv + offsets[s] * ld + d + h * width, *dv = dk + d;
        const float *e = dout + t * d + h * width;
        long keys = (causal ? t + 1 : offsets[s + 1]) - offsets[s];
        float *p = scratch, *dp = scratch + keys, unused;
        probabilities(q, k, ld, width, keys, p, &unused);
        double mean = 0;
        for (long j = 0; j < keys; j++) {
          dp[j] = dot(e, v + j * ld, width);
          mean += (double)p[j] * dp[j];
        }
        for (long j = 0; j < keys; j++) {
          float ds = (float)(p[j] * (dp[j] - mean)) * scale;
          for (int c = 0; c < width; c++) {
            dq[c] += ds * k[j * ld + c];
            dk[j * ld + c] += ds * q[c];
            dv[j * ld + c] += p[j] * e[c];
          }
        }
      }
}

#include "reference_layers.h"

static void adam(long count, float *parameters, const float *gradients, float *first, float *second,
                 float gradient_scale, float rate, float beta1, float beta2, float epsilon,
                 float weight_decay, float correction1, float correction2) {
  for (long i = 0; i < count; i++) {
    float g = gradients[i] * gradient_scale;
    first[i] = beta1 * first[i] + (1 - beta1) * g;
    second[i] = beta2 * second[i] + (1 - beta2) * g * g;
    float step = first[i] * correction1 / (sqrtf(second[i] * correction2) + epsilon);
    parameters[i] -= rate * (step + weight_decay * parameters[i]);
  }
}

static double sum_of_squares(long count, const float *x) {
  double sum = 0;
  for (long i = 0; i < count; i++) sum += (double)x[i] * x[i];
  return sum;
}

static double probe(long rounds) {
  volatile float sink;
  float x = 1;
  for (long i = 0; i < rounds; i++) x = x * 0.999f + 0.001f;
  sink = x;
  (void)sink;
  return 2.0 * (double)rounds;
}

const rk_table rk_reference = {
    .name = "reference",
    .packed_floats = packed_floats,
    .panel_columns = 0,
    .pack = pack,
    .gemm_packed = gemm_packed,
    .gemm_epilogue = gemm_epilogue,
    .gemm = gemm,
    .gemm_scratch = gemm_scratch,
    .gemm_exp = gemm_exp,
    .native_bf16 = 0,
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
