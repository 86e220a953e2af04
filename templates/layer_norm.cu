// layer_norm.cu: the template of layer normalisation over the innermost dim (Ba, Kiros, Hinton, arXiv:1607.06450). A
// block takes a row.
//
// Mean and variance come from one pass, of the sums of d and d^2, d = x - shift with the median of 3 elements for a shift: the
// method of shifted data, as in channel_partials.cu. Squares of x itself would cancel; a pass for the mean alone would make the
// block wait twice.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_layer_norm_row(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, long cols, full eps)
{
	const full shift = mp_median<full>(x[0], x[cols / 3], x[cols * 2 / 3]);
	full sums[2];
	mp_sum_strips<width>(cols, sums, [=](auto strip, long c, full (&add)[2]) {
		const auto value = mp_load<strip>(x + c);
		for (int e = 0; e < strip; e++) {
			const full d = value[e] - shift;
			add[0] += d;
			add[1] += d * d;
		}
	});
	const full offset = sums[0] / (full)cols, center = shift + offset, left = sums[1] / (full)cols - offset * offset;
	const full scale = 1 / mp_sqrt((left < 0 ? 0 : left) + eps);
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
