// layer_norm.cu: the template of layer normalisation over the innermost dim (Ba, Kiros, Hinton, arXiv:1607.06450). A
// team of threads holds a row, so memory is read once.
//
// Mean and variance come from one pass, of the sums of d and d^2, d = x - shift with the median of 3 elements for a shift: the
// method of shifted data, as in channel_partials.cu. Squares of x itself would cancel; a pass for the mean alone would make the
// team wait twice.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_layer_norm_row(mp_team &team, real *__restrict__ y, full *__restrict__ mean,
		full *__restrict__ rstd, const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, full eps)
{
	const auto row = mp_hold<width, MP_HELD>(team, x);
	const full shift = mp_median<full>(x[0], x[team.cols / 3], x[team.cols * 2 / 3]);
	full sums[2];
	mp_sum_strips<width>(team, sums, [=](auto strip, long, full (&add)[2], auto value) {
		for (int e = 0; e < strip; e++) {
			const full d = value[e] - shift;
			add[0] += d;
			add[1] = mp_multiply_add(d, d, add[1]);
		}
	}, row);
	const full offset = sums[0] / (full)team.cols, center = shift + offset;
	const full left = sums[1] / (full)team.cols - offset * offset, scale = 1 / mp_sqrt((left < 0 ? 0 : left) + eps);
	const full start = -center * scale;
	mp_each_strip<width>(team, [=](auto strip, long c, auto value) {
		const auto weight = mp_load<strip>(w + c), bias = mp_load<strip>(b ? b + c : w + c);
		real to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = mp_multiply_add(mp_multiply_add((full)value[e], scale, start), weight[e], b ? bias[e] : 0);
		mp_store<strip>(y + c, to, strip);
	}, row);
	if (team.thread == 0) {
		*mean = center;
		*rstd = scale;
	}
}

template <int width> MP_DEVICE void tmpl_layer_norm_rows(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, long rows, long cols, full eps)
{
	mp_team team = mp_row_team<width>(cols);
	for (long row = team.row; row < rows; row += team.stride)
		tmpl_layer_norm_row<width>(team, y + row * cols, mean + row, rstd + row, x + row * cols, w, b, eps);
}

static MP_ROW_TEAMS __global__ void tmpl_layer_norm_kernel(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
		const real *__restrict__ x, const full *__restrict__ w, const full *__restrict__ b, long rows, long cols, full eps,
		bool wide)
{
	if (wide)
		tmpl_layer_norm_rows<MP_STRIP(real)>(y, mean, rstd, x, w, b, rows, cols, eps);
	else
		tmpl_layer_norm_rows<1>(y, mean, rstd, x, w, b, rows, cols, eps);
}

// y: real[rows, cols] = (x - mean) * rstd * w + b; mean: full[rows] of each row, rstd: full[rows] = 1 / sqrt(its variance + eps)
// x: real[rows, cols]; w, b: full[cols], b NULL: no bias
void tmpl_layer_norm(real *y, full *mean, full *rstd, const real *x, const full *w, const full *b, long rows, long cols,
		full eps, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, x, w, b);
	const int width = wide ? MP_STRIP(real) : 1;
	MP_LAUNCH(tmpl_layer_norm_kernel, mp_row_team_blocks(rows, cols, width), mp_row_team_threads(cols, width), stream,
			y, mean, rstd, x, w, b, rows, cols, eps, wide);
}
