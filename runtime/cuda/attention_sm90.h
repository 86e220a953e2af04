// attention_sm90.h: the gradient of attention in bf16 by a kernel of our own, for heads of 64 elements without dropout, on GPUs of
// compute capability 9.0. Runs agree to the bit.
#ifndef MP_ATTENTION_SM90_H
#define MP_ATTENTION_SM90_H

#include "mp.h"

#ifdef __cplusplus
extern "C" {
#endif

// Whether it can compute this on the current device.
bool mp_attention_sm90_takes(const struct mp_attention *a);

// Bytes of workspace for so many pairs of a sample and a group at once.
size_t mp_attention_sm90_bytes(const struct mp_attention *a, int units);

// Makes the device hold the kernels. Only where it takes an attention.
void mp_attention_sm90_prepare(void);

// As mp_attention_grad(), of `units` pairs from first on.
void mp_attention_sm90_grad(const struct mp_attention *a, int first, int units, const void *d_o, const void *qkv, const void *o, const void *lse,
                            void *dqkv, void *workspace, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
