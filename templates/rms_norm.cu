// rms_norm.cu: the template of RMS normalisation over the innermost dim (Zhang and Sennrich, arXiv:1910.07467). A team of
// threads holds a row, so memory is read once.
//
// Slots: those of layer_norm.cu.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

template <int width> MP_DEVICE void tmpl_rms_norm_row(mp_team &team, real *__restrict__ y, full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, long first, full eps)
{
	//@ optional row
	const auto row = mp_hold<width, MP_HELD>(team, x + first);
	//@ end
	full squares[1];
	mp_sum_strips<width>(team, squares, [](auto strip, long, full (&add)[1], auto value) {
		for (int e = 0; e < strip; e++)
			add[0] = mp_multiply_add((full)value[e], (full)value[e], add[0]);
	}, row);
	const full scale = 1 / mp_sqrt(squares[0] / (full)team.cols + eps);
	mp_each_strip<width>(team, [=](auto strip, long c, auto value) {
		const auto weight = mp_load<strip>(w + c);
		real to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = value[e] * scale * weight[e];
		mp_store<strip>(y + first + c, to, strip);
	}, row);
	if (team.thread == 0)
		*rstd = scale;
}

template <int width> MP_DEVICE void tmpl_rms_norm_rows(real *__restrict__ y, full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, long rows, long cols, full eps)
{
	mp_team team = mp_row_team<width>(cols);
	for (long row = team.row; row < rows; row += team.stride)
		tmpl_rms_norm_row<width>(team, y, rstd + row,
			//@ optional arguments
			x,
			//@ end
			w, row * cols, eps);
}

static MP_ROW_TEAMS __global__ void tmpl_rms_norm_kernel(real *__restrict__ y, full *__restrict__ rstd,
	//@ optional kernel_parameters
	const real *__restrict__ x,
	//@ end
	const full *__restrict__ w, long rows, long cols, full eps, bool wide)
{
	if (wide)
		tmpl_rms_norm_rows<MP_STRIP(real)>(y, rstd,
			//@ optional arguments
			x,
			//@ end
			w, rows, cols, eps);
	else
		tmpl_rms_norm_rows<1>(y, rstd,
			//@ optional arguments
			x,
			//@ end
			w, rows, cols, eps);
}

// y: real[rows, cols] = x * rstd * w; rstd: full[rows] = 1 / sqrt(the mean of a row's squares + eps)
// x: real[rows, cols]; w: full[cols]
//@ optional comment
//@ end
void tmpl_rms_norm(real *y, full *rstd,
	//@ optional parameters
	const real *x,
	//@ end
	const full *w, long rows, long cols, full eps, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, y, w,
		//@ optional addresses
		x
		//@ end
	);
	const int width = wide ? MP_STRIP(real) : 1;
	MP_LAUNCH(tmpl_rms_norm_kernel, mp_row_team_blocks(rows, cols, width), mp_row_team_threads(cols, width), stream,
		y, rstd,
		//@ optional arguments
		x,
		//@ end
		w, rows, cols, eps, wide);
}
