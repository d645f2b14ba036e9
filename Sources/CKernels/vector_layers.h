// Layers beside the transformer's, a part of `vector_kernels.h`: gates, gated recurrent units, rows
// of length one, and attention without a softmax.

INLINE vf sigmoid_v(vf x) { return splat(1.0f) / (splat(1.0f) + exp_v(-x)); }
INLINE vf tanh_v(vf x) { return splat(2.0f) * sigmoid_v(x + x) - splat(1.0f); }

static void unit_rows(long m, long n, float scale, const float *x, float *y, float *inverse) {
  for (long r = 0; r < m; r++) {
    const float *row = x + r * n;
    float i = 1.0f / sqrtf(dot(row, row, n) + 1e-12f);
    FOR_VECTORS(n) put(y + r * n, i_, n, get(row, i_, n) * splat(scale * i));
    inverse[r] = i;
  }
}

static void unit_rows_backward(long m, long n, float scale, const float *dy, const float *x,
                               const float *inverse, int accumulate, float *dx) {
  for (long r = 0; r < m; r++) {
    const float *row = x + r * n, *e = dy + r * n;
    float *out = dx + r * n, i = inverse[r];
    vf along = splat(dot(row, e, n) * i * i);
    FOR_VECTORS(n) {
      vf v = splat(scale * i) * (get(e, i_, n) - along * get(row, i_, n));
      put(out, i_, n, accumulate ? get(out, i_, n) + v : v);
    }
  }
}

static void gate(long count, const float *x, const float *g, const float *y, rk_dropout dropout,
                 float *out) {
  FOR_VECTORS(count) {
    vf v = sigmoid_v(get(g, i_, count)) * get(y, i_, count);
    if (dropout.threshold) v *= keep_v(i_, dropout);
    put(out, i_, count, get(x, i_, count) + v);
  }
}

static void gate_backward(long count, const float *dout, const float *g, const float *y,
                          rk_dropout dropout, float *dg, float *dy) {
  FOR_VECTORS(count) {
    vf e = get(dout, i_, count), s = sigmoid_v(get(g, i_, count));
    if (dropout.threshold) e *= keep_v(i_, dropout);
    vf v = e * get(y, i_, count) * s * (splat(1.0f) - s);
    put(dy, i_, count, e * s);
    put(dg, i_, count, v);
  }
}

static void swiglu(long m, long n, const float *ab, rk_dropout dropout, float *out) {
  for (long r = 0; r < m; r++) {
    const float *a = ab + r * 2 * n, *b = a + n;
    FOR_VECTORS(n) {
      vf x = get(a, i_, n);
      vf v = x * sigmoid_v(x) * get(b, i_, n);
      if (dropout.threshold) v *= keep_v(r * n + i_, dropout);
      put(out + r * n, i_, n, v);
    }
  }
}

static void swiglu_backward(long m, long n, const float *dout, const float *ab, rk_dropout dropout,
                            float *dab) {
  for (long r = 0; r < m; r++) {
    const float *a = ab + r * 2 * n, *b = a + n;
    float *da = dab + r * 2 * n, *db = da + n;
    FOR_VECTORS(n) {
      vf x = get(a, i_, n), s = sigmoid_v(x), e = get(dout + r * n, i_, n);
      if (dropout.threshold) e *= keep_v(r * n + i_, dropout);
      put(da, i_, n, e * get(b, i_, n) * s * (splat(1.0f) + x * (splat(1.0f) - s)));
      put(db, i_, n, e * x * s);
    }
  }
}

static void gru(long m, long n, const float *x, const float *h, const float *before, float *gates,
                float *out) {
  for (long i = 0; i < m; i++, x += 3 * n, h += 3 * n, gates += 3 * n, before += n, out += n) {
    FOR_VECTORS(n) {
      vf r = sigmoid_v(get(x, i_, n) + get(h, i_, n));
      vf z = sigmoid_v(get(x + n, i_, n) + get(h + n, i_, n));
      vf c = tanh_v(get(x + 2 * n, i_, n) + r * get(h + 2 * n, i_, n));
      put(gates, i_, n, r);
      put(gates + n, i_, n, z);
      put(gates + 2 * n, i_, n, c);
      put(out, i_, n, c + z * (get(before, i_, n) - c));
    }
  }
}

static void gru_backward(long m, long n, const float *dout, const float *gates, const float *h,
                         const float *before, float *dx, float *dh, float *dbefore) {
  for (long i = 0; i < m; i++) {
    const float *g = gates + i * 3 * n, *hidden = h + i * 3 * n;
    float *x = dx + i * 3 * n, *y = dh + i * 3 * n;
    FOR_VECTORS(n) {
      vf one = splat(1.0f), e = get(dout + i * n, i_, n);
      vf r = get(g, i_, n), z = get(g + n, i_, n), c = get(g + 2 * n, i_, n);
      vf dc = e * (one - z) * (one - c * c);
      vf dz = e * (get(before + i * n, i_, n) - c) * z * (one - z);
      vf dr = dc * get(hidden + 2 * n, i_, n) * r * (one - r);
      put(x, i_, n, dr);
      put(y, i_, n, dr);
      put(x + n, i_, n, dz);
      put(y + n, i_, n, dz);
      put(x + 2 * n, i_, n, dc);
      put(y + 2 * n, i_, n, dc * r);
      put(dbefore + i * n, i_, n, e * z);
    }
  }
}

// What is added to the products of row i with keys 0...i.
INLINE void relative_bias(long i, long length, long limit, const float *distances,
                          const float *times, const uint8_t *square, float *bias) {
  const float *from = distances + limit - 1 - i;
  long n = i + 1;
  if (times) {
    const uint8_t *row = square + i * length;
    for (long j = 0; j < n; j++) bias[j] = from[j] + times[row[j]];
  } else {
    memcpy(bias, from, (size_t)n * 4);
  }
}

static void silu_attention(const float *qkv, long stride, int heads, int width,
                           const int32_t *offsets, int sequences, long limit,
                           const float *distances, const float *times, const uint8_t *buckets,
                           float *out, float *scratch) {
  long d = (long)heads * width, ld = stride;
  vf share = splat(1 / (float)limit);
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first, keys = padded(length);
    float *packed_k = scratch, *p = packed_k + keys * width, *bias = p + QB * keys;
    float *rest = bias + keys;
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * ld + h * width, *k = q + d, *v = k + d;
      pack(1, length, width, k, ld, packed_k);
      for (long r = 0; r < length; r += QB) {
        long rows = length - r < QB ? length - r : QB, seen = r + rows;
        gemm_packed(rows, seen, width, 1, q + r * ld, ld, 1, packed_k, 0, p, keys);
        for (long i = 0; i < rows; i++) {
          float *row = p + i * keys;
          long n = r + i + 1;
          relative_bias(r + i, length, limit, distances, times, buckets, bias);
          FOR_VECTORS(n) {
            vf x = get(row, i_, n) + get(bias, i_, n);
            put(row, i_, n, x * sigmoid_v(x) * share);
          }
          for (long j = n; j < seen; j++) row[j] = 0;
        }
        gemm(rows, width, seen, 1, p, keys, 1, v, ld, 0, out + (first + r) * d + h * width, d, rest);
      }
    }
    if (buckets) buckets += length * length;
  }
}

static void silu_attention_backward(const float *qkv, long stride, const float *dout, int heads,
                                    int width, const int32_t *offsets, int sequences, long limit,
                                    const float *distances, const float *times,
                                    const uint8_t *buckets, float *dqkv, float *ddistances,
                                    float *dtimes, float *scratch) {
  long d = (long)heads * width, ld = stride;
  vf share = splat(1 / (float)limit);
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first, keys = padded(length);
    float *packed_k = scratch, *packed_v = packed_k + keys * width, *p = packed_v + keys * width;
    float *dp = p + QB * keys, *bias = dp + QB * keys, *rest = bias + keys;
    for (long t = first; t < first + length; t++) memset(dqkv + t * ld + d, 0, (size_t)(2 * d) * 4);
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * ld + h * width, *k = q + d, *v = k + d;
      float *dq = dqkv + first * ld + h * width, *dk = dq + d, *dv = dk + d;
      pack(1, length, width, k, ld, packed_k);
      pack(1, length, width, v, ld, packed_v);
      for (long r = 0; r < length; r += QB) {
        long rows = length - r < QB ? length - r : QB, seen = r + rows;
        const float *e = dout + (first + r) * d + h * width;
        gemm_packed(rows, seen, width, 1, q + r * ld, ld, 1, packed_k, 0, p, keys);
        gemm_packed(rows, seen, width, 1, e, d, 1, packed_v, 0, dp, keys);
        for (long i = 0; i < rows; i++) {
          float *x = p + i * keys, *y = dp + i * keys;
          long n = r + i + 1;
          float *distance = ddistances + limit - n;
          relative_bias(r + i, length, limit, distances, times, buckets, bias);
          FOR_VECTORS(n) {
            vf a = get(x, i_, n) + get(bias, i_, n), z = sigmoid_v(a);
            vf slope = z * (splat(1.0f) + a * (splat(1.0f) - z)) * share;
            vf ds = get(y, i_, n) * slope;
            put(x, i_, n, a * z * share);
            put(y, i_, n, ds);
            put(distance, i_, n, get(distance, i_, n) + ds);
          }
          if (times) {
            const uint8_t *row = buckets + (r + i) * length;
            for (long j = 0; j < n; j++) dtimes[row[j]] += y[j];
          }
          for (long j = n; j < seen; j++) x[j] = y[j] = 0;
        }
        gemm(rows, width, seen, 1, dp, keys, 1, k, ld, 0, dq + r * ld, ld, rest);
        gemm(seen, width, rows, 1, dp, 1, keys, q + r * ld, ld, 1, dk, ld, rest);
        gemm(seen, width, rows, 1, p, 1, keys, e, d, 1, dv, ld, rest);
      }
    }
    if (buckets) buckets += length * length;
  }
}
