// accumulate.cu: the template of sums over micro-batches. The first one stores, so nothing has to be cleared before.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_accumulate_kernel(real *__restrict__ y, const real *__restrict__ x, long n, bool first)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride())
		y[i] = first ? x[i] : real(y[i] + x[i]);
}

// y: real[n] = first ? x : y + x
void tmpl_accumulate(real *y, const real *x, long n, bool first, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_accumulate_kernel, mp_blocks(n), MP_THREADS, stream, y, x, n, first);
}
