#include "riffle_kernels.h"
