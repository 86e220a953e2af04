// mp_halves.h: an f32 in two halves of 16 bits, of which one is a bf16 that products can take as it is; in C, and on both machines.
//
// A weight in full precision lies beside its copy in bf16, which repeats its upper half. So the copy is kept, and of the weight only what the
// copy lacks: its lower 16 bits. As numbers of a sign they say how far the weight is from the copy, so that the two add up to it. Of two bf16 that are
// as near, the copy is the one farther from zero: rounded to even it would be the same for a weight half a step below it and one half a
// step above, whose lower bits are the same too. (Transformer Engine's FusedAdam keeps such remainders.)
#ifndef MP_HALVES_H
#define MP_HALVES_H

#include "mp_bf16.h"

#ifdef __cplusplus
#define MP_HALVES_FUNCTION static MP_BF16_FUNCTION
#else
#define MP_HALVES_FUNCTION static inline
#endif

// The copy of a weight. A NaN is made the one whose lower half is zero: rounded as an integer, others would become a number.
MP_HALVES_FUNCTION mp_bf16 mp_upper_half(float weight)
{
	uint32_t whole;
	mp_bf16 half;
	memcpy(&whole, &weight, sizeof whole);
	half.bits = (uint16_t)(weight == weight ? (whole + 0x8000) >> 16 : 0x7fc0);
	return half;
}

MP_HALVES_FUNCTION uint16_t mp_lower_half(float weight)
{
	uint32_t whole;
	memcpy(&whole, &weight, sizeof whole);
	return (uint16_t)(weight == weight ? whole : 0);
}

MP_HALVES_FUNCTION float mp_join_halves(mp_bf16 upper, uint16_t lower)
{
	uint32_t whole = ((uint32_t)upper.bits << 16) + (uint32_t)(int16_t)lower;
	float weight;
	memcpy(&weight, &whole, sizeof weight);
	return weight;
}

#ifdef __cplusplus

// A weight in the type of what computes with it.
template <class real, class full> MP_HALVES_FUNCTION real mp_working_copy(full weight)
{
	if constexpr (sizeof(real) == sizeof(mp_bf16))
		return mp_upper_half((float)weight);
	else
		return weight;
}

#endif
#endif
