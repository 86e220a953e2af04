// bf16.h: rows of bfloat16 values and floats, for the host's library calls, which compute in f32.
#ifndef MP_HOST_BF16_H
#define MP_HOST_BF16_H

#include "../mp_bf16.h"

#include <stddef.h>

static inline void mp_bf16_widen(float *restrict to, const mp_bf16 *restrict from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t whole = (uint32_t)from[i].bits << 16;
		memcpy(&to[i], &whole, sizeof whole);
	}
}

// To the nearest value, ties to even; a NaN stays one.
static inline void mp_bf16_round(mp_bf16 *restrict to, const float *restrict from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t whole;
		memcpy(&whole, &from[i], sizeof whole);
		uint32_t rounded = (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
		to[i].bits = (uint16_t)((whole & 0x7fffffff) > 0x7f800000 ? 0x7fff : rounded);
	}
}

#endif
