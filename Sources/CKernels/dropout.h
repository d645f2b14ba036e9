// What all versions must do alike to the bit: the hash behind dropout, and rounding to bfloat16.
#pragma once
#include <stdint.h>

// The finaliser of MurmurHash3 (Austin Appleby, public domain) over index + seed.
#define RK_HASH1 0x9E3779B1u
#define RK_HASH2 0x85EBCA77u
#define RK_HASH3 0xC2B2AE3Du

// float to bfloat16, to nearest even. Not-a-numbers stay so.
static inline uint32_t rk_bf16(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return (u >> 16) | 0x40;
  return (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}

static inline float rk_from_bf16(uint32_t half) {
  uint32_t u = half << 16;
  float x;
  __builtin_memcpy(&x, &u, 4);
  return x;
}

static inline float rk_keep(uint32_t index, uint32_t seed, uint32_t threshold, float scale) {
  uint32_t h = (index + seed) * RK_HASH1;
  h ^= h >> 15;
  h *= RK_HASH2;
  h ^= h >> 13;
  h *= RK_HASH3;
  h ^= h >> 16;
  return (h >> 8) >= threshold ? scale : 0.0f;
}
