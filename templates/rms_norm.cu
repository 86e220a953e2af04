// rms_norm.cu: the template of RMS normalisation over the innermost dim (Zhang and Sennrich, arXiv:1910.07467). A block
// takes a row.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_rms_norm_row(real *__restrict__ y, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, long cols, full eps)
{
	full squares[1];
	mp_sum_strips<width>(cols, squares, [=](auto strip, long c, full (&add)[1]) {
		const auto value = mp_load<strip>(x + c);
		for (int e = 0; e < strip; e++)
			add[0] += (full)value[e] * value[e];
	});
	const full scale = 1 / mp_sqrt(squares[0] / (full)cols + eps);
	mp_each_strip<width>(cols, [=](auto strip, long c) {
		const auto value = mp_load<strip>(x + c);
		const auto weight = mp_load<strip>(w + c);
		real to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = value[e] * scale * weight[e];
		mp_store<strip>(y + c, to, strip);
	});
	if (threadIdx.x == 0)
		*rstd = scale;
}

static __global__ void tmpl_rms_norm_kernel(real *__restrict__ y, full *__restrict__ rstd, const real *__restrict__ x,
		const full *__restrict__ w, long rows, long cols, full eps, bool wide)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const long at = row * cols;
		if (wide)
			tmpl_rms_norm_row<MP_STRIP(real)>(y + at, rstd + row, x + at, w, cols, eps);
		else
			tmpl_rms_norm_row<1>(y + at, rstd + row, x + at, w, cols, eps);
	}
}

// y: real[rows, cols] = x * rstd * w; rstd: full[rows] = 1 / sqrt(the mean of a row's squares + eps)
// x: real[rows, cols]; w: full[cols]
void tmpl_rms_norm(real *y, full *rstd, const real *x, const full *w, long rows, long cols, full eps, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, x, w);
	MP_LAUNCH(tmpl_rms_norm_kernel, mp_row_blocks(rows), mp_strip_threads(cols, wide ? MP_STRIP(real) : 1), stream,
			y, rstd, x, w, rows, cols, eps, wide);
}
