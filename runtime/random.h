// random.h: counter-based random numbers that do not depend on the partition.
//
// Every value is a function of a key (seed and name) and of a *global* index alone, so any rank can compute any slice
// of a tensor, and every mesh starts from the same bits.
#ifndef MP_RANDOM_H
#define MP_RANDOM_H

#include "mp.h"
#include "mp_philox.h"

// Key of a tensor or a stream: a 64-bit hash of the seed and the name.
uint64_t mp_random_key(uint64_t seed, const char *name);

// The four words of block `block` of sub-stream `stream` (0 for tensors; the epoch for orders).
void mp_random_block(uint64_t key, uint64_t stream, uint64_t block, uint32_t out[4]);

// The middle of the x-th of 2^32 equal pieces of (0, 1): never 0 and never 1.
static inline double mp_unit(uint32_t x) { return (x + 0.5) * 0x1p-32; }

// Elements first .. first + count - 1 of the tensor with this key and initialisation, converted to type. Element i
// uses block i / 4; f32 values are the f64 values rounded.
void mp_random_fill(const struct mp_init *init, uint64_t key, enum mp_type type, long first, long count, void *out);

// A permutation of 0 .. n-1, drawn anew for each epoch.
void mp_random_order(uint64_t seed, long epoch, long n, long *order);

#endif
