// part_sums.h: the sum of a tensor's parts that came in from other ranks.
#ifndef MP_PART_SUMS_H
#define MP_PART_SUMS_H

#include "../engines.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mp_parts {
	const void *at[MP_EXCHANGE_RANKS];
	int count;
};

// to[i] = the sum of all parts' element i, from the first to the last in f32 (f64 in f64), rounded once. bytes: of each. `to` may be one
// of the parts. All are multiples of 16 bytes apart from the arena's start, or of an element, which is slower.
void mp_sum_parts(void *to, struct mp_parts parts, size_t bytes, enum mp_type type, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
