// layer_norm.cu: the template of layer normalisation over the innermost dim (Ba, Kiros, Hinton, arXiv:1607.06450). A
// team of threads holds a row, so memory is read once; mean and variance then take a pass each over registers.
//
// Slots, each with what stands here where x is not made by the kernel itself, by element-wise ops of x0, x1, …: comment;
// kernel_parameters, parameters, arguments and addresses, as in elementwise.cu; row, which reads a row of x, or makes and stores it.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_layer_norm_row(mp_team &team, real *__restrict__ y, full *__restrict__ mean,
	full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, const full *__restrict__ b, long first, full eps)
{
	//@ optional row
	const auto row = mp_hold<width, MP_HELD>(team, x + first);
	//@ end
	const full share = 1 / (full)team.cols;
	full sum[1], squares[1];
	mp_sum_strips<width>(team, sum, [](auto strip, long, full (&add)[1], auto value) {
		for (int e = 0; e < strip; e++)
			add[0] += value[e];
	}, row);
	const full center = sum[0] * share;
	mp_sum_strips<width>(team, squares, [=](auto strip, long, full (&add)[1], auto value) {
		for (int e = 0; e < strip; e++) {
			const full d = value[e] - center;
			add[0] = mp_multiply_add(d, d, add[0]);
		}
	}, row);
	const full scale = 1 / mp_sqrt(squares[0] * share + eps), start = -center * scale;
	mp_each_strip<width>(team, [=](auto strip, long c, auto value) {
		const auto weight = mp_load<strip>(w + c), bias = mp_load<strip>(b ? b + c : w + c);
		real to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = mp_multiply_add(mp_multiply_add((full)value[e], scale, start), weight[e], b ? bias[e] : 0);
		mp_store<strip>(y + first + c, to, strip);
	}, row);
	if (team.thread == 0) {
		*mean = center;
		*rstd = scale;
	}
}

template <int width> MP_DEVICE void tmpl_layer_norm_rows(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, const full *__restrict__ b, long rows, long cols, full eps)
{
	mp_team team = mp_row_team<width>(cols);
	for (long row = team.row; row < rows; row += team.stride)
		tmpl_layer_norm_row<width>(team, y, mean + row, rstd + row,
			//@ optional arguments
			x,
			//@ end
			w, b, row * cols, eps);
}

static MP_ROW_TEAMS __global__ void tmpl_layer_norm_kernel(real *__restrict__ y, full *__restrict__ mean, full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, const full *__restrict__ b, long rows, long cols, full eps, bool wide)
{
	if (wide)
		tmpl_layer_norm_rows<MP_STRIP(real)>(y, mean, rstd,
			//@ optional arguments
			x,
			//@ end
			w, b, rows, cols, eps);
	else
		tmpl_layer_norm_rows<1>(y, mean, rstd,
			//@ optional arguments
			x,
			//@ end
			w, b, rows, cols, eps);
}

// y: real[rows, cols] = (x - mean) * rstd * w + b; mean: full[rows] of each row, rstd: full[rows] = 1 / sqrt(its variance + eps)
// x: real[rows, cols]; w, b: full[cols], b NULL: no bias
//@ optional comment
//@ end
void tmpl_layer_norm(real *y, full *mean, full *rstd,
	//@ optional parameters
	const real *x,
	//@ end
	const full *w, const full *b, long rows, long cols, full eps, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, w, b,
		//@ optional addresses
		x
		//@ end
	);
	const int width = wide ? MP_STRIP(real) : 1;
	MP_LAUNCH(tmpl_layer_norm_kernel, mp_row_team_blocks(rows, cols, width), mp_row_team_threads(cols, width), stream,
		y, mean, rstd,
		//@ optional arguments
		x,
		//@ end
		w, b, rows, cols, eps, wide);
}
