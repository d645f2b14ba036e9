// 128-bit vectors: SSE2 on x86-64, NEON on arm64, and whatever clang makes of them elsewhere.
#pragma clang fp contract(fast)
#define VL 4
#if defined(__aarch64__)
#define MR 12
#else
#define MR 6
#endif
#define RK_TABLE rk_portable
#define RK_NAME "portable"
#include "vector_kernels.h"
