// The plain version of the scans, and the choice between versions.
#include "scan_best.h"

static const float *floats_of(const rk_rows *rows, long i) {
  return rows->chunks[i / rk_chunk_rows].floats + i % rk_chunk_rows * rows->float_stride;
}

static float dot(const float *a, const float *b, long n) {
  float sum = 0;
  for (long j = 0; j < n; j++) sum += a[j] * b[j];
  return sum;
}

static void scores(const rk_rows *rows, const float *query, const int32_t *ids, long n,
                   float *out) {
  for (long i = 0; i < n; i++) out[i] = dot(floats_of(rows, ids[i]), query, rows->width);
}

static int has(const uint64_t *mask, long i) { return (int)(mask[i >> 6] >> (i & 63) & 1); }

static void offer(rk_best *best, int32_t id, float lower, float upper) {
  best->scanned++;
  if (!scan_above(upper, best->threshold)) return;
  best->ids[best->held] = id;
  best->lower[best->held] = lower;
  best->upper[best->held] = upper;
  best->held++;
  best->fresh++;
}

static void offer_bytes(const uint8_t *codes, float scale, float error, float norm, long stride,
                        const rk_query *q, int32_t id, rk_best *best) {
  int32_t product = 0;
  for (long j = 0; j < stride; j++) product += (codes[j] - 128) * q->codes[j];
  float bound = scan_bound(q, error, norm);
  float middle = (float)product * q->step;
  offer(best, id, scale * (middle - bound), scale * (middle + bound));
}

static void scan_floats(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                        rk_best *best) {
  for (long i = 0; i < rows->count; i++) {
    if (i % rk_chunk_rows == 0) rk_best_prepare(best);
    if (!has(mask, i)) continue;
    float score = scan_number(dot(floats_of(rows, i), query->floats, rows->width));
    offer(best, (int32_t)i, score, score);
    best->exact = best->held;
  }
}

static void scan_ids(const rk_rows *rows, const rk_query *query, const int32_t *ids, long n,
                     rk_best *best) {
  for (long i = 0; i < n; i++) {
    if (i % rk_chunk_rows == 0) rk_best_prepare(best);
    const rk_chunk *chunk = rows->chunks + ids[i] / rk_chunk_rows;
    long at = ids[i] % rk_chunk_rows;
    offer_bytes(chunk->codes + at * rows->code_stride, chunk->scales[at], chunk->error,
                chunk->norm, rows->code_stride, query, ids[i], best);
  }
}

static void scan_bytes(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                       rk_best *best) {
  for (long i = 0; i < rows->count; i++) {
    int32_t id = (int32_t)i;
    if (has(mask, i)) scan_ids(rows, query, &id, 1, best);
  }
}

static void scan_list(const rk_list *list, const rk_list *next, long code_stride,
                      const rk_query *query, const uint64_t *mask, const uint64_t *skip,
                      rk_best *best) {
  (void)next;
  for (long i = 0; i < list->count; i++) {
    if (i % rk_chunk_rows == 0) rk_best_prepare(best);
    int32_t id = list->ids[i];
    if (!has(mask, id) || (skip && has(skip, id))) continue;
    offer_bytes(list->codes + i * code_stride, list->scales[i], list->error, list->norm,
                code_stride, query, id, best);
  }
}

static void greatest(long m, long n, const float *scores, long stride, int32_t *places,
                     float *values) {
  for (long i = 0; i < m; i++) {
    const float *row = scores + i * stride;
    places[i] = 0;
    values[i] = n > 0 ? row[0] : 0;
    for (long j = 1; j < n; j++)
      if (row[j] > values[i]) {
        values[i] = row[j];
        places[i] = (int32_t)j;
      }
  }
}

static long population(const uint64_t *words, long n) {
  long sum = 0;
  for (long i = 0; i < 64 * n; i++) sum += has(words, i);
  return sum;
}

const rk_scan_table rk_scan_reference = {
    .name = "reference",
    .scores = scores,
    .scan_floats = scan_floats,
    .scan_bytes = scan_bytes,
    .scan_list = scan_list,
    .scan_ids = scan_ids,
    .greatest = greatest,
    .population = population,
};

const rk_scan_table *rk_scan_select(const char *name) {
  if (!strcmp(name, "reference")) return &rk_scan_reference;
  if (!strcmp(name, "portable")) return &rk_scan_portable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  int has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi");
  int has512 = has2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has2 && !strcmp(name, "avx2")) return &rk_scan_avx2;
  if (has2 && __builtin_cpu_supports("avxvnni") && !strcmp(name, "avxvnni"))
    return &rk_scan_avxvnni;
  if (has512 && !strcmp(name, "avx512")) return &rk_scan_avx512;
  if (has512 && __builtin_cpu_supports("avx512vnni") && !strcmp(name, "avx512vnni"))
    return &rk_scan_avx512vnni;
#endif
  return 0;
}
