// The hash behind dropout, shared by all versions so that they drop the same elements.
#pragma once
#include <stdint.h>

// The finaliser of MurmurHash3 (Austin Appleby, public domain) over index + seed.
#define RK_HASH1 0x9E3779B1u
#define RK_HASH2 0x85EBCA77u
#define RK_HASH3 0xC2B2AE3Du

static inline float rk_keep(uint32_t index, uint32_t seed, uint32_t threshold, float scale) {
  uint32_t h = (index + seed) * RK_HASH1;
  h ^= h >> 15;
  h *= RK_HASH2;
  h ^= h >> 13;
  h *= RK_HASH3;
  h ^= h >> 16;
  return (h >> 8) >= threshold ? scale : 0.0f;
}
