// attention_mask.h: what attention.c, through cuDNN, needs for dropout.
#ifndef MP_ATTENTION_MASK_H
#define MP_ATTENTION_MASK_H

#include "mp.h"

#ifdef __cplusplus
extern "C" {
#endif

// mask, bf16 [units, queries, tokens, tokens rounded up to a multiple of 8]: 1 for each key that is no later than the query and that
// dropout keeps, else 0, for `units` pairs of a sample and a group from first_unit on. all: nothing is dropped.
void mp_attention_mask(const struct mp_attention *a, struct mp_dropped dropped, int first_unit, int units, bool all, void *mask,
                       cudaStream_t stream);

// scaled, bf16 [tokens, units, queries, size] = share * o of `units` pairs from first_unit on: what the gradient's delta is summed from
// where dropout keeps that share. o: bf16 [tokens, batch, groups, queries, size].
void mp_attention_scale(const struct mp_attention *a, const void *o, int first_unit, int units, float share, void *scaled, cudaStream_t stream);

// Makes the device hold the kernels.
void mp_attention_mask_prepare(void);

#ifdef __cplusplus
}
#endif
#endif
