// elementwise.cu: the template of fused element-wise ops over tensors of one shape, and scalars. The body takes a strip of
// adjacent elements from i on: it loads strips of the operands, computes each element by calls of mp_math.h, and stores strips.
// A strip has 16 bytes of the narrowest tensor where addresses allow it, else, at the end and on the host, one element.
// Scalars are x0[0]. Broadcasts of anything else: elementwise_rows.cu.
// A buffer that is updated in place is passed once, as an output that the body also loads.
//
// Slots: comment, what the op computes, for the launcher (lines starting with //); kernel_parameters and parameters,
// the same parameters with and without __restrict__; body; arguments; addresses, the arguments of which strips are taken. Each
// list but the last ends with a comma.
#include "mp_kernel.h"

typedef float real; //@ param

template <int width> MP_DEVICE void tmpl_elementwise_strip(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long i)
{
	//@ slot body
	const auto in0 = mp_load<width>(x0 + i), in1 = mp_load<width>(x1 + i);
	real out0[width];
	MP_EACH_OF_STRIP(e, width) {
		float t0 = mp_add((float)in0[e], (float)in1[e]);
		out0[e] = mp_relu(t0);
	}
	mp_store<width>(y0 + i, out0, width);
	//@ end
}

static __global__ void tmpl_elementwise_kernel(
	//@ slot kernel_parameters
	real *__restrict__ y0, const real *__restrict__ x0, const real *__restrict__ x1,
	//@ end
	long n, long strips)
{
	for (long strip = mp_first(); strip < strips; strip += mp_stride())
		tmpl_elementwise_strip<MP_STRIP(real)>(
			//@ slot arguments
			y0, x0, x1,
			//@ end
			strip * MP_STRIP(real));
	MP_UNROLL
	for (long i = strips * MP_STRIP(real) + mp_first(); i < n; i += mp_stride())
		tmpl_elementwise_strip<1>(
			//@ slot arguments
			y0, x0, x1,
			//@ end
			i);
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
	const bool wide = mp_wide<real>(0,
		//@ slot addresses
		y0, x0, x1
		//@ end
	);
	const long strips = wide ? n / MP_STRIP(real) : 0;
	MP_LAUNCH(tmpl_elementwise_kernel, mp_blocks(wide ? strips : n), MP_THREADS, stream,
		//@ slot arguments
		y0, x0, x1,
		//@ end
		n, strips);
}
