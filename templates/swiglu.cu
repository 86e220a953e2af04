// swiglu.cu: the template of SwiGLU (Shazeer, arXiv:2002.05202): the sigmoid-weighted gate times what it lets through. Both are
// halves of a row, which one matrix product made.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_swiglu_rows(real *__restrict__ y, const real *__restrict__ x, long rows, long cols,
		int lanes)
{
	MP_MATRIX(row, rows, strip, cols / width, lanes) {
		const real *from = x + row * 2 * cols + strip * width;
		const auto gate = mp_load<width>(from), value = mp_load<width>(from + cols);
		real to[width];
		for (int e = 0; e < width; e++)
			to[e] = mp_silu((full)gate[e]) * value[e];
		mp_store<width>(y + row * cols + strip * width, to, width);
	}
}

static __global__ void tmpl_swiglu_kernel(real *__restrict__ y, const real *__restrict__ x, long rows, long cols, int lanes,
		bool wide)
{
	if (wide)
		tmpl_swiglu_rows<MP_STRIP(real)>(y, x, rows, cols, lanes);
	else
		tmpl_swiglu_rows<1>(y, x, rows, cols, lanes);
}

// y: real[rows, cols] = silu(gate) * value; x: real[rows, 2, cols] = gate, value
void tmpl_swiglu(real *y, const real *x, long rows, long cols, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, x);
	const int lanes = mp_lanes(wide ? cols / MP_STRIP(real) : cols);
	MP_LAUNCH(tmpl_swiglu_kernel, mp_matrix_blocks(rows, lanes), MP_THREADS, stream, y, x, rows, cols, lanes, wide);
}
