// The rows that may be among the k best: taking in, leaving out, scoring again, sorting.
#include "scan_best.h"

// A row's place in the answer: ascending keys are falling scores, then rising rows.
static uint64_t key_of(float score, int32_t id) {
  uint32_t bits;
  memcpy(&bits, &score, 4);
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (uint64_t)~bits << 32 | (uint32_t)id;
}

static float score_of(uint64_t key) {
  uint32_t bits = ~(uint32_t)(key >> 32);
  bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
  float score;
  memcpy(&score, &bits, 4);
  return score;
}

// Hoare's quickselect around a median of three: afterwards keys[0..<k] holds the k least.
static void select_keys(uint64_t *keys, long n, long k) {
  long from = 0, to = n - 1, at = k - 1;
  while (to > from) {
    uint64_t x = keys[from], y = keys[from + (to - from) / 2], z = keys[to];
    uint64_t pivot = x < y ? (y < z ? y : (x < z ? z : x)) : (x < z ? x : (y < z ? z : y));
    long i = from, j = to;
    while (i <= j) {
      while (keys[i] < pivot) i++;
      while (pivot < keys[j]) j--;
      if (i <= j) {
        uint64_t t = keys[i];
        keys[i++] = keys[j];
        keys[j--] = t;
      }
    }
    if (at <= j)
      to = j;
    else if (at >= i)
      from = i;
    else
      break;
  }
}

static void sort_keys(uint64_t *a, long n) {
  while (n > 24) {
    uint64_t x = a[0], y = a[n / 2], z = a[n - 1];
    uint64_t pivot = x < y ? (y < z ? y : (x < z ? z : x)) : (x < z ? x : (y < z ? z : y));
    long i = 0, j = n - 1;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (pivot < a[j]) j--;
      if (i <= j) {
        uint64_t t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    if (j + 1 < n - i) {
      sort_keys(a, j + 1);
      a += i;
      n -= i;
    } else {
      sort_keys(a + i, n - i);
      n = j + 1;
    }
  }
  for (long i = 1; i < n; i++) {
    uint64_t x = a[i];
    long j = i;
    for (; j > 0 && x < a[j - 1]; j--) a[j] = a[j - 1];
    a[j] = x;
  }
}

long rk_best_capacity(long k) { return 2 * k + 3 * rk_chunk_rows; }

// A value that at least k of the n values reach, and few more than k: the least value in the upper
// buckets of 256 that hold so many. Takes a third of the time of finding the k-th value itself.
//
// Eight lanes side by side: one comparison's result would otherwise wait for the last one's.
typedef float f4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t i4 __attribute__((vector_size(16), aligned(4)));

static inline f4 load4(const float *p) { return *(const f4 *)p; }

static inline float least_of(f4 x) {
  float a = x[0] < x[1] ? x[0] : x[1], b = x[2] < x[3] ? x[2] : x[3];
  return a < b ? a : b;
}

static float reached_by(const float *values, long n, long k) {
  enum { buckets = 256, lanes = 8 };
  f4 first = (f4){0} + values[0], low0 = first, low1 = first, high0 = first, high1 = first;
  long whole = n / lanes * lanes;
  for (long i = 0; i < whole; i += lanes) {
    f4 a = load4(values + i), b = load4(values + i + 4);
    low0 = __builtin_elementwise_min(a, low0);
    low1 = __builtin_elementwise_min(b, low1);
    high0 = __builtin_elementwise_max(a, high0);
    high1 = __builtin_elementwise_max(b, high1);
  }
  float least = least_of(__builtin_elementwise_min(low0, low1));
  float most = -least_of(-__builtin_elementwise_max(high0, high1));
  for (long i = whole; i < n; i++) {
    least = values[i] < least ? values[i] : least;
    most = values[i] > most ? values[i] : most;
  }
  float scale = (buckets - 1) / (most - least);
  // All equal, or infinite, or as good as that.
  if (!(most > least) || !(scale < 1e30f) || !(scale > 1e-30f)) return least;
  int32_t counts[2][buckets] = {0};
  for (long i = 0; i < whole; i += 4) {
    i4 at = __builtin_convertvector((load4(values + i) - least) * scale, i4);
    counts[0][at[0]]++;
    counts[1][at[1]]++;
    counts[0][at[2]]++;
    counts[1][at[3]]++;
  }
  for (long i = whole; i < n; i++) counts[i & 1][(int)((values[i] - least) * scale)]++;
  int bucket = buckets - 1;
  for (long sum = counts[0][bucket] + counts[1][bucket]; sum < k;
       sum += counts[0][bucket] + counts[1][bucket])
    bucket--;
  f4 reached0 = (f4){0} + most, reached1 = reached0;
  for (long i = 0; i < whole; i += lanes) {
    f4 a = load4(values + i), b = load4(values + i + 4);
    i4 in0 = __builtin_convertvector((a - least) * scale, i4) >= bucket;
    i4 in1 = __builtin_convertvector((b - least) * scale, i4) >= bucket;
    a = (f4)(((i4)a & in0) | ((i4)((f4){0} + most) & ~in0));
    b = (f4)(((i4)b & in1) | ((i4)((f4){0} + most) & ~in1));
    reached0 = __builtin_elementwise_min(a, reached0);
    reached1 = __builtin_elementwise_min(b, reached1);
  }
  float answer = least_of(__builtin_elementwise_min(reached0, reached1));
  for (long i = whole; i < n; i++) {
    int in = (int)((values[i] - least) * scale) >= bucket;
    answer = in && values[i] < answer ? values[i] : answer;
  }
  return answer;
}

// Leaves out the rows whose interval lies below the lower ends of k others.
static void narrow(rk_best *best) {
  best->fresh = 0;
  long k = best->k, n = best->held;
  if (n < k) return;
  float threshold = reached_by(best->lower, n, k);
  long held = 0, exact = 0;
  for (long i = 0; i < n; i++) {
    int stays = best->upper[i] >= threshold;
    best->ids[held] = best->ids[i];
    best->lower[held] = best->lower[i];
    best->upper[held] = best->upper[i];
    held += stays;
    exact += stays & (i < best->exact);
  }
  best->held = held;
  best->exact = exact;
  best->threshold = best->ascending ? threshold : nextafterf(threshold, -INFINITY);
}

// Scores every row that is held, and makes the keys.
static void make_exact(rk_best *best) {
  long from = best->exact, n = best->held - from;
  if (n > 0) {
    best->table->scores(best->rows, best->query->floats, best->ids + from, n, best->lower + from);
    for (long i = from; i < best->held; i++) {
      best->lower[i] = scan_number(best->lower[i]);
      best->upper[i] = best->lower[i];
    }
    best->rescored += n;
    best->exact = best->held;
  }
  for (long i = 0; i < best->held; i++) best->keys[i] = key_of(best->lower[i], best->ids[i]);
}

void rk_best_prepare(rk_best *best) {
  long step = best->k / 2 < 256 ? 256 : best->k / 2;
  int full = best->held + rk_chunk_rows > best->capacity;
  if (full || (best->held > best->k && best->fresh >= step)) narrow(best);
  if (best->held + rk_chunk_rows <= best->capacity) return;
  // The intervals do not tell the rows apart, as where many are equal.
  make_exact(best);
  long k = best->k;
  select_keys(best->keys, best->held, k);
  for (long i = 0; i < k; i++) {
    best->ids[i] = (int32_t)(uint32_t)best->keys[i];
    best->lower[i] = best->upper[i] = score_of(best->keys[i]);
  }
  best->held = best->exact = k;
  float threshold = score_of(best->keys[k - 1]);
  best->threshold = best->ascending ? threshold : nextafterf(threshold, -INFINITY);
}

long rk_best_finish(rk_best *best, float *scores, int32_t *ids) {
  if (best->held > best->k) narrow(best);
  make_exact(best);
  long n = best->held;
  if (n > best->k) {
    select_keys(best->keys, n, best->k);
    n = best->k;
  }
  sort_keys(best->keys, n);
  for (long i = 0; i < n; i++) {
    scores[i] = score_of(best->keys[i]);
    ids[i] = (int32_t)(uint32_t)best->keys[i];
  }
  return n;
}

// Below this a scale would bring in numbers of reduced precision; such a row is all rest.
static const float least_scale = 1e-20f;

void rk_quantise(const float *row, long width, long code_stride, uint8_t *codes, float *scale,
                 float *error, float *norm) {
  float greatest = 0;
  for (long j = 0; j < width; j++) {
    float size = fabsf(row[j]);
    greatest = size > greatest ? size : greatest;
  }
  float s = greatest / 127;
  s = s > least_scale ? s : least_scale;
  double inverse = 1.0 / (double)s, rest = 0, length = 0;
  for (long j = 0; j < width; j++) {
    double value = (double)row[j] * inverse;
    int code = (int)(value + 128.5);
    code = code < 1 ? 1 : code > 255 ? 255 : code;
    codes[j] = (uint8_t)code;
    double whole = code - 128;
    rest += (value - whole) * (value - whole);
    length += whole * whole;
  }
  memset(codes + width, 128, (size_t)(code_stride - width));
  *scale = s;
  *error = (float)(sqrt(rest) * 1.000001);
  *norm = (float)(sqrt(length) * 1.000001);
}

void rk_prepare_query(const float *floats, long width, long code_stride, int8_t *codes,
                      rk_query *query) {
  float step, rest, length;
  rk_quantise(floats, width, code_stride, (uint8_t *)codes, &step, &rest, &length);
  int32_t sum = 0;
  for (long j = 0; j < code_stride; j++) {
    int code = ((uint8_t *)codes)[j] - 128;
    codes[j] = (int8_t)code;
    sum += code;
  }
  double size = 0;
  for (long j = 0; j < width; j++) size += (double)floats[j] * floats[j];
  size = sqrt(size);
  // With row = s (c + e) and query = t (p + f), |e| <= error, |c| <= norm:
  //   |query . row - s t p.c| <= s (|query| |e| + t |f| |c|).
  // A float dot product of n terms is off by at most n 2^-24 |query| |row| (Higham, Accuracy and
  // Stability, 2002, section 3.1), plus 2^-150 a term where terms underflow. The interval's own
  // arithmetic takes less than 1e-6 of its parts.
  double terms = (double)width + 4;
  double dot = terms * 1.1 * 0x1p-24 * size;
  query->floats = floats;
  query->codes = codes;
  query->code_sum = sum;
  query->step = step;
  query->error_weight = (float)((size + dot) * 1.00001);
  query->norm_weight =
      (float)(((double)step * rest + dot + 1e-6 * (double)step * length) * 1.00001);
  query->least = (float)(terms * 4e-45 / (double)least_scale);
}
