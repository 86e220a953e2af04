// swiglu_grad.cu: the template of SwiGLU's gradient. The activation is computed again, not kept.
//   With s = sigmoid(gate): dvalue = dy * gate * s, dgate = dy * value * s * (1 + gate * (1 - s)).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_swiglu_grad_rows(real *__restrict__ dx, const real *__restrict__ dy,
		const real *__restrict__ x, long rows, long cols, int lanes)
{
	MP_MATRIX(row, rows, strip, cols / width, lanes) {
		const long at = row * cols + strip * width, both = at + row * cols;
		const auto slope = mp_load<width>(dy + at), gate = mp_load<width>(x + both), value = mp_load<width>(x + both + cols);
		real to_gate[width], to_value[width];
		for (int e = 0; e < width; e++) {
			const full g = gate[e], s = mp_sigmoid(g);
			to_gate[e] = slope[e] * value[e] * (s * (1 + g * (1 - s)));
			to_value[e] = slope[e] * (g * s);
		}
		mp_store<width>(dx + both, to_gate, width);
		mp_store<width>(dx + both + cols, to_value, width);
	}
}

static __global__ void tmpl_swiglu_grad_kernel(real *__restrict__ dx, const real *__restrict__ dy, const real *__restrict__ x,
		long rows, long cols, int lanes, bool wide)
{
	if (wide)
		tmpl_swiglu_grad_rows<MP_STRIP(real)>(dx, dy, x, rows, cols, lanes);
	else
		tmpl_swiglu_grad_rows<1>(dx, dy, x, rows, cols, lanes);
}

// dx: real[rows, 2, cols] = the gradient of x: real[rows, 2, cols], of swiglu, from dy: real[rows, cols]
void tmpl_swiglu_grad(real *dx, const real *dy, const real *x, long rows, long cols, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, dx, dy, x);
	const int lanes = mp_lanes(wide ? cols / MP_STRIP(real) : cols);
	MP_LAUNCH(tmpl_swiglu_grad_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream, dx, dy, x, rows, cols, lanes, wide);
}
