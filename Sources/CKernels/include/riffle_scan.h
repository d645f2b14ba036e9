// Search for the rows of highest inner product with a query, over floats and over bytes.
//
// Rows stand in chunks of rk_chunk_rows, so that an owner replaces one chunk without copying the
// rest. Next to its floats a row has codes, one byte a float: row = scale * (codes - 128 + rest).
// A scan over bytes computes an interval for each row that surely holds the score that `scores`
// would give, keeps the rows whose interval reaches the k best, and scores those again in floats:
// the answer is that of the float scan, bit by bit.
//
// Scores that are not numbers count as minus infinity. Equal scores stand in row order.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { rk_chunk_rows = 1024 };

// A chunk's memory is readable up to the next multiple of 64 rows.
typedef struct {
  const float *floats;   // rows of float_stride, zeros past the width
  const uint8_t *codes;  // rows of code_stride, 128 past the width
  const float *scales;
  float error;  // no row's rest is longer
  float norm;   // no row's codes - 128 are longer
} rk_chunk;

typedef struct {
  const rk_chunk *chunks;
  long count;
  long width;
  long float_stride;  // a multiple of 16
  long code_stride;   // a multiple of 64
  float error, norm;  // over all chunks
} rk_rows;

// A query = step * (codes + rest).
typedef struct {
  const float *floats;  // float_stride, zeros past the width
  const int8_t *codes;  // code_stride, zeros past the width
  int32_t code_sum;
  float step;
  // A score lies within scale * (error_weight * error + norm_weight * norm + least) of
  // scale * step * (product of codes).
  float error_weight, norm_weight, least;
} rk_query;

// Part of the rows in an order of their own: a list of a partition.
typedef struct {
  const uint8_t *codes;  // rows of code_stride, readable up to 64 rows past the last
  const float *scales;
  const int32_t *ids;
  long count;
  float error, norm;
} rk_list;

struct rk_scan_table;

// The rows that may be among the k best so far.
typedef struct {
  const struct rk_scan_table *table;
  const rk_rows *rows;
  const rk_query *query;
  long k;
  long capacity;  // at least rk_best_capacity(k)
  int32_t *ids;
  float *lower, *upper;  // the score is in between
  uint64_t *keys;        // scratch
  long held;
  long exact;     // the first so many have lower = upper = score
  long fresh;     // taken in since the threshold was last found
  int ascending;  // rows come in ascending order, so one that only equals the k best is left out
  float threshold;  // rows up to here are out; not a number while every row is in
  long scanned, rescored;  // for the curious
} rk_best;

typedef struct rk_scan_table {
  const char *name;
  // out[i] = the inner product of row ids[i] with the query
  void (*scores)(const rk_rows *rows, const float *query, const int32_t *ids, long n, float *out);
  // Offers every row whose bit is set in `mask`, scored in floats.
  void (*scan_floats)(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                      rk_best *best);
  // The same over bytes.
  void (*scan_bytes)(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                     rk_best *best);
  // Offers the rows of a list whose bit is set in `mask` and not set in `skip` (which may be NULL),
  // over bytes. `next`, which may be NULL, is the list to come, fetched ahead.
  void (*scan_list)(const rk_list *list, const rk_list *next, long code_stride,
                    const rk_query *query, const uint64_t *mask, const uint64_t *skip,
                    rk_best *best);
  // Offers some rows over bytes.
  void (*scan_ids)(const rk_rows *rows, const rk_query *query, const int32_t *ids, long n,
                   rk_best *best);
  // For each of m rows of n scores the place of the greatest, the first of equals, and its value.
  void (*greatest)(long m, long n, const float *scores, long stride, int32_t *places,
                   float *values);
  // The number of bits set.
  long (*population)(const uint64_t *words, long n);
} rk_scan_table;

// The table by name ("reference", "portable", "avx2", "avxvnni", "avx512", "avx512vnni"), or NULL
// where this processor or build has no such version.
const rk_scan_table *rk_scan_select(const char *name);

long rk_best_capacity(long k);
// Makes room for rk_chunk_rows more rows and raises the threshold where that pays.
void rk_best_prepare(rk_best *best);
// Writes the k best rows, best first; returns how many there are.
long rk_best_finish(rk_best *best, float *scores, int32_t *ids);

// Fills a row's codes and its scale, and gives the length of the rest and of the codes - 128, both
// rounded up. The row must be finite.
void rk_quantise(const float *row, long width, long code_stride, uint8_t *codes, float *scale,
                 float *error, float *norm);
// Fills a query from its floats. `codes`: code_stride bytes, which must live as long as the query.
void rk_prepare_query(const float *floats, long width, long code_stride, int8_t *codes,
                      rk_query *query);

#ifdef __cplusplus
}
#endif
