// layer_norm.cu: the template of layer normalisation over the innermost dim (Ba, Kiros, Hinton, arXiv:1607.06450). A
// block takes a row. The variance is of differences from the mean, not of squares, which would cancel.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_layer_norm_row(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, long cols, full eps)
{
	full sum[1], squares[1];
	mp_sum_strips<width>(cols, sum, [=](auto strip, long c, full (&add)[1]) {
		const auto value = mp_load<strip>(x + c);
		for (int e = 0; e < strip; e++)
			add[0] += value[e];
	});
	const full center = sum[0] / (full)cols;
	mp_sum_strips<width>(cols, squares, [=](auto strip, long c, full (&add)[1]) {
		const auto value = mp_load<strip>(x + c);
		for (int e = 0; e < strip; e++)
			add[0] += (value[e] - center) * (value[e] - center);
	});
	const full scale = 1 / mp_sqrt(squares[0] / (full)cols + eps);
	mp_each_strip<width>(cols, [=](auto strip, long c) {
		const auto value = mp_load<strip>(x + c);
		const auto weight = mp_load<strip>(w + c), bias = mp_load<strip>(b ? b + c : w + c);
		real to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = (value[e] - center) * scale * weight[e] + (b ? bias[e] : 0);
		mp_store<strip>(y + c, to, strip);
	});
	if (threadIdx.x == 0) {
		*mean = center;
		*rstd = scale;
	}
}

static __global__ void tmpl_layer_norm_kernel(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, long rows, long cols, full eps,
		bool wide)
{
	for (long row = blockIdx.x; row < rows; row += gridDim.x) {
		const long at = row * cols;
		if (wide)
			tmpl_layer_norm_row<MP_STRIP(real)>(y + at, mean + row, rstd + row, x + at, w, b, cols, eps);
		else
			tmpl_layer_norm_row<1>(y + at, mean + row, rstd + row, x + at, w, b, cols, eps);
	}
}

// y: real[rows, cols] = (x - mean) * rstd * w + b; mean: full[rows] of each row, rstd: full[rows] = 1 / sqrt(its variance + eps)
// x: real[rows, cols]; w, b: full[cols], b NULL: no bias
void tmpl_layer_norm(real *y, full *mean, full *rstd, const real *x, const full *w, const full *b, long rows, long cols,
		full eps, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, x, w, b);
	MP_LAUNCH(tmpl_layer_norm_kernel, mp_row_blocks(rows), mp_strip_threads(cols, wide ? MP_STRIP(real) : 1), stream,
			y, mean, rstd, x, w, b, rows, cols, eps, wide);
}
