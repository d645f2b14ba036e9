// The fast scans, written once and compiled for each instruction set.
//
// The including file defines VL (floats in a vector), SCAN_TABLE and SCAN_NAME, sets the target
// attribute, and defines GROUP (rows at a time) with
//   void byte_products(const uint8_t *const *rows, const int8_t *q, long stride, int32_t *out)
// which writes the sums of row byte * q for GROUP rows, and BYTE_OFFSET(query), which is what these
// sums are too great by: nothing where the bytes are read as codes - 128.

#include "scan_best.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float vf __attribute__((vector_size(4 * VL)));
typedef float vfu __attribute__((vector_size(4 * VL), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef int32_t viu __attribute__((vector_size(4 * VL), aligned(4)));
typedef float v4 __attribute__((vector_size(16)));
typedef float v4u __attribute__((vector_size(16), aligned(4)));

INLINE vf load(const float *p) { return *(const vfu *)p; }
INLINE vf splat(float x) { return x - (vf){0}; }

INLINE v4 fold4(vf x) {
#if VL == 16
  typedef float v8 __attribute__((vector_size(32)));
  v8 h = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
         __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif VL == 8
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
#else
  return x;
#endif
}

// Four rows at a time: each row's sum comes about in the same order wherever it stands, so a row has
// one score, however it was found.
INLINE v4 dot4(const float *a, const float *b, const float *c, const float *d, const float *q,
               long stride) {
  vf x = {0}, y = {0}, z = {0}, w = {0};
  for (long j = 0; j < stride; j += VL) {
    vf v = load(q + j);
    x += load(a + j) * v;
    y += load(b + j) * v;
    z += load(c + j) * v;
    w += load(d + j) * v;
  }
  v4 p = fold4(x), r = fold4(y), s = fold4(z), t = fold4(w);
  v4 pr = __builtin_shufflevector(p, r, 0, 1, 4, 5) + __builtin_shufflevector(p, r, 2, 3, 6, 7);
  v4 st = __builtin_shufflevector(s, t, 0, 1, 4, 5) + __builtin_shufflevector(s, t, 2, 3, 6, 7);
  return __builtin_shufflevector(pr, st, 0, 2, 4, 6) + __builtin_shufflevector(pr, st, 1, 3, 5, 7);
}

// Bit i is set where lane i of x is not at or below the threshold.
INLINE uint32_t lanes_above(vf x, vf threshold) {
#if VL == 16
  return _mm512_cmp_ps_mask((__m512)x, (__m512)threshold, _CMP_NLE_UQ);
#elif VL == 8
  return (uint32_t)_mm256_movemask_ps(
      _mm256_cmp_ps((__m256)x, (__m256)threshold, _CMP_NLE_UQ));
#elif defined(__x86_64__)
  return (uint32_t)_mm_movemask_ps(_mm_cmpnle_ps((__m128)x, (__m128)threshold));
#else
  uint32_t bits = 0;
  UNROLL for (int i = 0; i < VL; i++) bits |= (uint32_t)scan_above(x[i], threshold[i]) << i;
  return bits;
#endif
}

INLINE const float *floats_of(const rk_rows *rows, long i) {
  return rows->chunks[i / rk_chunk_rows].floats + i % rk_chunk_rows * rows->float_stride;
}

INLINE void prefetch(const void *p, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)p + i);
}

static void scores(const rk_rows *rows, const float *query, const int32_t *ids, long n,
                   float *out) {
  enum { ahead = 8 };
  long bytes = rows->float_stride * 4;
  for (long i = 0; i < n && i < ahead; i++) prefetch(floats_of(rows, ids[i]), bytes);
  for (long i = 0; i < n; i += 4) {
    for (long j = i + ahead; j < n && j < i + ahead + 4; j++)
      prefetch(floats_of(rows, ids[j]), bytes);
    const float *a = floats_of(rows, ids[i]);
    const float *b = i + 1 < n ? floats_of(rows, ids[i + 1]) : a;
    const float *c = i + 2 < n ? floats_of(rows, ids[i + 2]) : a;
    const float *d = i + 3 < n ? floats_of(rows, ids[i + 3]) : a;
    v4 s = dot4(a, b, c, d, query, rows->float_stride);
    if (i + 4 <= n)
      *(v4u *)(out + i) = s;
    else
      for (long j = i; j < n; j++) out[j] = s[j - i];
  }
}

static long population(const uint64_t *words, long n) {
  long sum = 0;
  for (long i = 0; i < n; i++) sum += __builtin_popcountll(words[i]);
  return sum;
}

// Takes in the rows of a vector whose bits are set.
INLINE void take(rk_best *best, uint32_t bits, vf lower, vf upper, long first,
                 const int32_t *ids) {
  long held = best->held;
  float low[VL], up[VL];
  memcpy(low, &lower, sizeof low);
  memcpy(up, &upper, sizeof up);
  while (bits) {
    int lane = __builtin_ctz(bits);
    bits &= bits - 1;
    best->ids[held] = ids ? ids[first + lane] : (int32_t)(first + lane);
    best->lower[held] = low[lane];
    best->upper[held] = up[lane];
    held++;
  }
  best->fresh += held - best->held;
  best->held = held;
}

INLINE void take_scores(rk_best *best, const float *values, long n, long first, const int32_t *ids,
                        uint64_t word) {
  vf threshold = splat(best->threshold);
  for (long v = 0; v < n; v += VL) {
    vf s = load(values + v);
    uint32_t bits = lanes_above(s, threshold) & (uint32_t)(word >> v) & (uint32_t)((1ull << VL) - 1);
    if (__builtin_expect(bits != 0, 0)) {
      vi number = s == s;
      s = (vf)(((vi)(s + splat(0.0f)) & number) | ((vi)splat(-INFINITY) & ~number));
      take(best, bits, s, s, first + v, ids);
    }
  }
  best->exact = best->held;
}

// Whether so many came in that a higher threshold would keep out more than finding it costs. Asked within
// chunks too: the first one has no threshold to begin with.
INLINE int is_due(const rk_best *best) {
  return best->fresh >= (best->k / 2 < 256 ? 256 : best->k / 2) && best->held > best->k;
}

INLINE uint64_t low_bits(long n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// Scores up to rk_chunk_rows rows in floats and takes them in.
static void offer_floats(const rk_rows *rows, const rk_query *query, const int32_t *ids, long n,
                         rk_best *best) {
  float values[64 + 16];
  rk_best_prepare(best);
  for (long i = 0; i < n; i += 64) {
    long here = n - i < 64 ? n - i : 64;
    scores(rows, query->floats, ids + i, here, values);
    take_scores(best, values, here, i, ids, low_bits(here));
  }
  best->scanned += n;
}

// Scores up to rk_chunk_rows rows over bytes and takes them in.
static void offer_bytes(const rk_rows *rows, const rk_query *query, const int32_t *ids, long n,
                        rk_best *best) {
  enum { ahead = 32 };
  rk_best_prepare(best);
  best->scanned += n;
  int32_t offset = BYTE_OFFSET(query);
  vf step = splat(query->step), bound = splat(scan_bound(query, rows->error, rows->norm));
  vf threshold = splat(best->threshold);
  long stride = rows->code_stride;
#define PREFETCH_CODES(J)                                            \
  do {                                                               \
    long id_ = ids[J], at_ = id_ % rk_chunk_rows;                    \
    const rk_chunk *chunk_ = rows->chunks + id_ / rk_chunk_rows;     \
    prefetch(chunk_->codes + at_ * stride, stride);                  \
    __builtin_prefetch(chunk_->scales + at_);                        \
  } while (0)
  for (long i = 0; i < n && i < ahead; i++) PREFETCH_CODES(i);
  for (long i = 0; i < n; i += 16) {
    for (long j = i + ahead; j < n && j < i + ahead + 16; j++) PREFETCH_CODES(j);
    const uint8_t *at[16];
    float scale[16];
    int32_t product[16];
    long here = n - i < 16 ? n - i : 16;
    for (long j = 0; j < 16; j++) {
      long id = ids[j < here ? i + j : i];
      const rk_chunk *chunk = rows->chunks + id / rk_chunk_rows;
      at[j] = chunk->codes + id % rk_chunk_rows * stride;
      scale[j] = chunk->scales[id % rk_chunk_rows];
    }
    UNROLL for (long j = 0; j < 16; j += GROUP) byte_products(at + j, query->codes, stride, product + j);
    uint64_t word = low_bits(here);
    for (long v = 0; v < 16; v += VL) {
      vf middle = __builtin_convertvector(*(const viu *)(product + v) - offset, vf) * step;
      vf s = load(scale + v);
      vf upper = s * (middle + bound);
      uint32_t bits = lanes_above(upper, threshold) & (uint32_t)(word >> v) &
                      (uint32_t)((1ull << VL) - 1);
      if (__builtin_expect(bits != 0, 0)) take(best, bits, s * (middle - bound), upper, i + v, ids);
    }
  }
}

static void scan_ids(const rk_rows *rows, const rk_query *query, const int32_t *ids, long n,
                     rk_best *best) {
  for (long i = 0; i < n; i += rk_chunk_rows)
    offer_bytes(rows, query, ids + i, n - i < rk_chunk_rows ? n - i : rk_chunk_rows, best);
}

// Bytes. Fetching so far ahead took a scan of a million rows of 64 from 1.9 to 1.5 ms; 2 KiB gave 1.75,
// 16 KiB 1.8.
enum { scan_ahead = 8192 };
// Rows.
enum { scales_ahead = 512 };

INLINE int is_set(const uint64_t *mask, long i) { return (int)(mask[i >> 6] >> (i & 63) & 1); }

// Scores rows that stand side by side, in blocks of 64, and takes in those of `words` (or all).
INLINE void scan_piece(const uint8_t *codes, const float *scales, long count, long stride,
                       const rk_query *query, float bound_, const uint64_t *words, long first,
                       const int32_t *ids, const uint64_t *mask, const uint64_t *skip,
                       rk_best *best) {
  int32_t product[64] = {0};
  int32_t offset = BYTE_OFFSET(query);
  vf step = splat(query->step), bound = splat(bound_), threshold = splat(best->threshold);
  for (long base = 0; base < count; base += 64) {
    uint64_t word = (words ? words[base >> 6] : ~0ull) & low_bits(count - base);
    if (!word) continue;
    const uint8_t *block = codes + base * stride;
    prefetch(scales + base + scales_ahead, 64 * sizeof(float));
    for (long g = 0; g < 64; g += GROUP) {
      if (!(word >> g & low_bits(GROUP))) continue;
      const uint8_t *at[GROUP];
      UNROLL for (long j = 0; j < GROUP; j++) at[j] = block + (g + j) * stride;
      prefetch(at[0] + scan_ahead, GROUP * stride);
      byte_products(at, query->codes, stride, product + g);
    }
    for (long v = 0; v < 64; v += VL) {
      vf middle = __builtin_convertvector(*(const viu *)(product + v) - offset, vf) * step;
      vf s = load(scales + base + v);
      vf upper = s * (middle + bound);
      uint32_t bits = lanes_above(upper, threshold) & (uint32_t)(word >> v) &
                      (uint32_t)((1ull << VL) - 1);
      if (__builtin_expect(bits != 0, 0)) {
        if (ids) {
          for (uint32_t rest = bits; rest; rest &= rest - 1) {
            long id = ids[base + v + __builtin_ctz(rest)];
            if (!is_set(mask, id) || (skip && is_set(skip, id))) bits &= ~(rest & -rest);
          }
          if (!bits) continue;
        }
        take(best, bits, s * (middle - bound), upper, (ids ? 0 : first) + base + v, ids);
      }
    }
    if (__builtin_expect(is_due(best), 0)) {
      rk_best_prepare(best);
      threshold = splat(best->threshold);
    }
  }
}

// Bytes of codes to fetch of the next list.
enum { next_bytes = 8192 };

static void scan_list(const rk_list *list, const rk_list *next, long code_stride,
                      const rk_query *query, const uint64_t *mask, const uint64_t *skip,
                      rk_best *best) {
  float bound = scan_bound(query, list->error, list->norm);
  for (long i = 0; i < list->count; i += rk_chunk_rows) {
    long here = list->count - i < rk_chunk_rows ? list->count - i : rk_chunk_rows;
    rk_best_prepare(best);
    if (next && i + here == list->count) {
      prefetch(next->codes, next_bytes);
      prefetch(next->scales, scales_ahead * sizeof(float));
    }
    scan_piece(list->codes + i * code_stride, list->scales + i, here, code_stride, query, bound, 0,
               0, list->ids + i, mask, skip, best);
    best->scanned += here;
  }
}

// Walks through the chunks: one with many rows in the mask is scanned as it stands; the rows of the
// others are collected and fetched one by one, so that a narrow mask costs its rows and little more.
#define WALK(OFFER, BLOCK)                                                             \
  int32_t pending[rk_chunk_rows];                                                      \
  long waiting = 0;                                                                    \
  for (long start = 0; start < rows->count; start += rk_chunk_rows) {                  \
    long here = rows->count - start < rk_chunk_rows ? rows->count - start : rk_chunk_rows; \
    const uint64_t *words = mask + (start >> 6);                                       \
    long in = population(words, (here + 63) >> 6);                                     \
    if (!in) continue;                                                                 \
    if (in * narrow_share < here) {                                                    \
      if (waiting + in > rk_chunk_rows) {                                              \
        OFFER(rows, query, pending, waiting, best);                                    \
        waiting = 0;                                                                   \
      }                                                                                \
      for (long w = 0; w < (here + 63) >> 6; w++)                                      \
        for (uint64_t word = words[w]; word; word &= word - 1)                         \
          pending[waiting++] = (int32_t)(start + (w << 6) + __builtin_ctzll(word));    \
      continue;                                                                        \
    }                                                                                  \
    if (waiting) OFFER(rows, query, pending, waiting, best);                           \
    waiting = 0;                                                                       \
    const rk_chunk *chunk = rows->chunks + start / rk_chunk_rows;                      \
    rk_best_prepare(best);                                                             \
    best->scanned += here;                                                             \
    BLOCK                                                                              \
  }                                                                                    \
  if (waiting) OFFER(rows, query, pending, waiting, best);

// One row in so many must be allowed for scanning all to be quicker than fetching those.
enum { narrow_share = 4 };

static void scan_bytes(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                       rk_best *best) {
  WALK(offer_bytes, {
    scan_piece(chunk->codes, chunk->scales, here, rows->code_stride, query,
               scan_bound(query, chunk->error, chunk->norm), words, start, 0, 0, 0, best);
  })
}

static void scan_floats(const rk_rows *rows, const rk_query *query, const uint64_t *mask,
                        rk_best *best) {
  WALK(offer_floats, {
    float values[64];
    long stride = rows->float_stride;
    for (long base = 0; base < here; base += 64) {
      uint64_t word = words[base >> 6] & low_bits(here - base);
      if (!word) continue;
      const float *block = chunk->floats + base * stride;
      for (long j = 0; j < 64; j += 4) {
        const float *a = block + j * stride;
        prefetch(a + scan_ahead / 4, 16 * stride);
        *(v4u *)(values + j) =
            dot4(a, a + stride, a + 2 * stride, a + 3 * stride, query->floats, stride);
      }
      take_scores(best, values, 64, start + base, 0, word);
      if (__builtin_expect(is_due(best), 0)) rk_best_prepare(best);
    }
  })
}

static void greatest(long m, long n, const float *scores_, long stride, int32_t *places,
                     float *values) {
  for (long i = 0; i < m; i++) {
    const float *row = scores_ + i * stride;
    float value = n > 0 ? row[0] : 0;
    int32_t place = 0;
    long j = 0;
    if (n >= VL) {
      vf most = load(row);
      vi at = {0}, number = {0};
      UNROLL for (int l = 0; l < VL; l++) at[l] = number[l] = l;
      for (j = VL; j + VL <= n; j += VL) {
        vf x = load(row + j);
        number += VL;
        vi more = x > most;
        most = (vf)(((vi)x & more) | ((vi)most & ~more));
        at = (number & more) | (at & ~more);
      }
      value = most[0];
      place = at[0];
      for (int l = 1; l < VL; l++)
        if (most[l] > value || (most[l] == value && at[l] < place)) {
          value = most[l];
          place = at[l];
        }
    }
    for (; j < n; j++)
      if (row[j] > value) {
        value = row[j];
        place = (int32_t)j;
      }
    places[i] = place;
    values[i] = value;
  }
}

const rk_scan_table SCAN_TABLE = {
    .name = SCAN_NAME,
    .scores = scores,
    .scan_floats = scan_floats,
    .scan_bytes = scan_bytes,
    .scan_list = scan_list,
    .scan_ids = scan_ids,
    .greatest = greatest,
    .population = population,
};
