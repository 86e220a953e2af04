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

// Counters that are worked on at once: the host's vector registers hold many.
#ifdef __CUDACC__
enum { MP_PHILOX_STRIP = 1 };
#else
enum { MP_PHILOX_STRIP = 64 };
#endif

// word[0..3][j] is counter j before and random number j after; 0 <= j < n <= MP_PHILOX_STRIP.
MP_DEVICE void mp_philox_strip(uint32_t word[4][MP_PHILOX_STRIP], const uint32_t key[2], int n)
{
	uint32_t k0 = key[0], k1 = key[1];
	for (int round = 0; round < 10; round++) {
		// Loops of their own for the products: only then does gcc take the instruction for 32 times 32 bits.
		uint64_t p0[MP_PHILOX_STRIP], p1[MP_PHILOX_STRIP];
		for (int j = 0; j < n; j++)
			p0[j] = (uint64_t)0xD2511F53 * word[0][j];
		for (int j = 0; j < n; j++)
			p1[j] = (uint64_t)0xCD9E8D57 * word[2][j];
		for (int j = 0; j < n; j++) {
			uint32_t n0 = (uint32_t)(p1[j] >> 32) ^ word[1][j] ^ k0, n2 = (uint32_t)(p0[j] >> 32) ^ word[3][j] ^ k1;
			word[0][j] = n0, word[1][j] = (uint32_t)p1[j], word[2][j] = n2, word[3][j] = (uint32_t)p0[j];
		}
		k0 += 0x9E3779B9, k1 += 0xBB67AE85;
	}
}

// Of a step's random key, in its first two words for a layer: word[0..3][j] is random number `first` + j, 0 <= j < n.
MP_DEVICE void mp_philox_numbers(uint32_t word[4][MP_PHILOX_STRIP], uint64_t first, const uint32_t key[4], int n)
{
	for (int j = 0; j < n; j++) {
		word[0][j] = (uint32_t)(first + j);
		word[1][j] = (uint32_t)((first + j) >> 32);
		word[2][j] = key[2];
		word[3][j] = key[3];
	}
	mp_philox_strip(word, key, n);
}

MP_DEVICE void mp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t word[4][MP_PHILOX_STRIP];
	for (int i = 0; i < 4; i++)
		word[i][0] = counter[i];
	mp_philox_strip(word, key, 1);
	for (int i = 0; i < 4; i++)
		out[i] = word[i][0];
}

#endif
