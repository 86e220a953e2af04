// keep_first.cu: the template of Replicate -> Partial(sum): the first rank of an axis keeps the value and the others
// hold zeros, so that their sum is the value.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_keep_first_kernel(real *__restrict__ y, const real *__restrict__ x, long n, bool keep)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride())
		y[i] = keep ? x[i] : (real)0;
}

// y: real[n] = keep ? x : 0
void tmpl_keep_first(real *y, const real *x, long n, bool keep, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_keep_first_kernel, mp_blocks(n), MP_THREADS, stream, y, x, n, keep);
}
