// Layers beside the transformer's, a part of `reference.c`.

static void unit_rows(long m, long n, float scale, const float *x, float *y, float *inverse) {
  for (long i = 0; i < m; i++) {
    double squares = 1e-12;
    for (long j = 0; j < n; j++) squares += (double)x[i * n + j] * x[i * n + j];
    inverse[i] = (float)(1 / sqrt(squares));
    for (long j = 0; j < n; j++) y[i * n + j] = (float)(scale * x[i * n + j] / sqrt(squares));
  }
}

static void unit_rows_backward(long m, long n, float scale, const float *dy, const float *x,
                               const float *inverse, int accumulate, float *dx) {
  for (long i = 0; i < m; i++) {
    double along = 0, r = inverse[i];
    for (long j = 0; j < n; j++) along += (double)dy[i * n + j] * x[i * n + j] * r * r;
    for (long j = 0; j < n; j++) {
      double v = scale * r * (dy[i * n + j] - along * x[i * n + j]);
      dx[i * n + j] = (float)(accumulate ? dx[i * n + j] + v : v);
    }
  }
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void gate(long count, const float *x, const float *g, const float *y, rk_dropout dropout,
                 float *out) {
  for (long i = 0; i < count; i++)
    out[i] = (float)(x[i] + sigmoid(g[i]) * y[i] * keep(i, dropout));
}

static void gate_backward(long count, const float *dout, const float *g, const float *y,
                          rk_dropout dropout, float *dg, float *dy) {
  for (long i = 0; i < count; i++) {
    double s = sigmoid(g[i]), e = (double)dout[i] * keep(i, dropout);
    dg[i] = (float)(e * y[i] * s * (1 - s));
    dy[i] = (float)(e * s);
  }
}

static void swiglu(long m, long n, const float *ab, rk_dropout dropout, float *out) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      double a = ab[i * 2 * n + j], b = ab[i * 2 * n + n + j];
      out[i * n + j] = (float)(a * sigmoid(a) * b * keep(i * n + j, dropout));
    }
}

static void swiglu_backward(long m, long n, const float *dout, const float *ab, rk_dropout dropout,
                            float *dab) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      double a = ab[i * 2 * n + j], b = ab[i * 2 * n + n + j], s = sigmoid(a);
      double e = (double)dout[i * n + j] * keep(i * n + j, dropout);
      dab[i * 2 * n + j] = (float)(e * b * s * (1 + a * (1 - s)));
      dab[i * 2 * n + n + j] = (float)(e * a * s);
    }
}

static void gru(long m, long n, const float *x, const float *h, const float *before, float *gates,
                float *out) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      const float *a = x + i * 3 * n + j, *b = h + i * 3 * n + j;
      double r = sigmoid((double)a[0] + b[0]), z = sigmoid((double)a[n] + b[n]);
      double c = tanh(a[2 * n] + r * b[2 * n]);
      float *g = gates + i * 3 * n + j;
      g[0] = (float)r;
      g[n] = (float)z;
      g[2 * n] = (float)c;
      out[i * n + j] = (float)((1 - z) * c + z * before[i * n + j]);
    }
}

static void gru_backward(long m, long n, const float *dout, const float *gates, const float *h,
                         const float *before, float *dx, float *dh, float *dbefore) {
  for (long i = 0; i < m; i++)
    for (long j = 0; j < n; j++) {
      const float *g = gates + i * 3 * n + j;
      double r = g[0], z = g[n], c = g[2 * n], e = dout[i * n + j];
      double dc = e * (1 - z) * (1 - c * c), dz = e * (before[i * n + j] - c) * z * (1 - z);
      double dr = dc * h[i * 3 * n + 2 * n + j] * r * (1 - r);
      float *a = dx + i * 3 * n + j, *b = dh + i * 3 * n + j;
      a[0] = b[0] = (float)dr;
      a[n] = b[n] = (float)dz;
      a[2 * n] = (float)dc;
      b[2 * n] = (float)(dc * r);
      dbefore[i * n + j] = (float)(e * z);
    }
}

// The product of a query and a key, moved by how far they are apart.
static double relative_score(const float *q, const float *k, int width, long i, long j, long length,
                             long limit, const float *distances, const float *times,
                             const uint8_t *square) {
  double s = distances[limit - 1 - (i - j)];
  if (times) s += times[square[i * length + j]];
  for (int c = 0; c < width; c++) s += (double)q[c] * k[c];
  return s;
}

static void silu_attention(const float *qkv, long stride, int heads, int width,
                           const int32_t *offsets, int sequences, long limit,
                           const float *distances, const float *times, const uint8_t *buckets,
                           float *out, float *scratch) {
  (void)scratch;
  long d = (long)heads * width;
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first;
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * stride + h * width, *k = q + d, *v = k + d;
      for (long i = 0; i < length; i++) {
        float *o = out + (first + i) * d + h * width;
        memset(o, 0, (size_t)width * 4);
        for (long j = 0; j <= i; j++) {
          double x = relative_score(q + i * stride, k + j * stride, width, i, j, length, limit,
                                    distances, times, buckets);
          double weight = x * sigmoid(x) / (double)limit;
          for (int c = 0; c < width; c++) o[c] += (float)(weight * v[j * stride + c]);
        }
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
  (void)scratch;
  long d = (long)heads * width;
  for (long t = offsets[0]; t < offsets[sequences]; t++)
    memset(dqkv + t * stride, 0, (size_t)(3 * d) * 4);
  for (int s = 0; s < sequences; s++) {
    long first = offsets[s], length = offsets[s + 1] - first;
    for (int h = 0; h < heads; h++) {
      const float *q = qkv + first * stride + h * width, *k = q + d, *v = k + d;
      float *dq = dqkv + first * stride + h * width, *dk = dq + d, *dv = dk + d;
      for (long i = 0; i < length; i++) {
        const float *e = dout + (first + i) * d + h * width;
        for (long j = 0; j <= i; j++) {
          double x = relative_score(q + i * stride, k + j * stride, width, i, j, length, limit,
                                    distances, times, buckets);
          double z = sigmoid(x), weight = x * z / (double)limit;
          double ds = dot(e, v + j * stride, width) * z * (1 + x * (1 - z)) / (double)limit;
          for (int c = 0; c < width; c++) {
            dq[i * stride + c] += (float)(ds * k[j * stride + c]);
            dk[j * stride + c] += (float)(ds * q[i * stride + c]);
            dv[j * stride + c] += (float)(weight * e[c]);
          }
          ddistances[limit - 1 - (i - j)] += (float)ds;
          if (times) dtimes[buckets[i * length + j]] += (float)ds;
        }
      }
    }
    if (buckets) buckets += length * length;
  }
}
