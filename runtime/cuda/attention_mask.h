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

// Makes the device hold the kernel.
void mp_attention_mask_prepare(void);

#ifdef __cplusplus
}
#endif
#endif
