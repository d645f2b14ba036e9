// What the versions of the scans share.
#pragma once
#include <math.h>
#include <string.h>

#include "riffle_scan.h"

extern const rk_scan_table rk_scan_reference;
extern const rk_scan_table rk_scan_portable;
#if defined(__x86_64__)
extern const rk_scan_table rk_scan_avx2;
extern const rk_scan_table rk_scan_avxvnni;
extern const rk_scan_table rk_scan_avx512;
extern const rk_scan_table rk_scan_avx512vnni;
#endif

// Half the interval's width in units of the row's scale.
static inline float scan_bound(const rk_query *q, float error, float norm) {
  return q->error_weight * error + q->norm_weight * norm + q->least;
}

static inline float scan_number(float score) {
  // Adding zero makes minus zero plus zero, so that the two are equal as keys too.
  return score == score ? score + 0.0f : -INFINITY;
}

// Whether a row can be in; true where the threshold is not a number.
static inline int scan_above(float upper, float threshold) { return !(upper <= threshold); }
