// The versions of the kernels that this build holds.
#pragma once
#include "riffle_kernels.h"

extern const rk_table rk_reference;
extern const rk_table rk_portable;
#if defined(__x86_64__)
extern const rk_table rk_avx2;
extern const rk_table rk_avx512;
extern const rk_table rk_avx512bf16;
#endif
