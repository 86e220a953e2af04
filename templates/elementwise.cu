// elementwise.cu: the template of fused element-wise ops over tensors of one shape, and scalars. The body is a sequence
// of calls of mp_math.h: operands are x0[i], or x0[0] for a scalar. Broadcasts of anything else: elementwise_rows.cu.
// A buffer that is updated in place is passed once, as an output that the body also reads.
//
// Slots: comment, what the op computes, for the launcher (lines starting with //); kernel_parameters and parameters,
// the same parameters with and without __restrict__; body; arguments. Each list ends with a comma.
#include "mp_kernel.h"

typedef float real; //@ param

static __global__ void tmpl_elementwise_kernel(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long n)
{
	MP_UNROLL
	for (long i = mp_first(); i < n; i += mp_stride()) {
		//@ slot body
		real t0 = mp_add(x0[i], x1[i]);
		y0[i] = mp_relu(t0);
		//@ end
	}
}

//@ slot comment
// y0: real[n] = relu(add(x0, x1)); x0, x1: real[n]
//@ end
void tmpl_elementwise(
	//@ slot parameters
	real *y0, const real *x0, const real *x1,
	//@ end
	long n, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_elementwise_kernel, mp_blocks(n), MP_THREADS, stream,
		//@ slot arguments
		y0, x0, x1,
		//@ end
		n);
}
