// mp_philox.h: the random numbers of initial values (random.c) and of kernels (dropout): one function for C, for kernels
// on the GPU and for kernels of the host build, so that all draw the same bits.
//
// Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A number depends on
// a key and a counter alone, so whoever holds an element of a tensor computes the element's numbers.
#ifndef MP_PHILOX_H
#define MP_PHILOX_H

#include <stdint.h>

#ifdef __cplusplus
#include "mp_math.h"
#else
#define MP_DEVICE static inline
#endif

MP_DEVICE void mp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
		uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
		k0 += 0x9E3779B9, k1 += 0xBB67AE85;
	}
	out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

#endif
