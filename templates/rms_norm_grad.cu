// rms_norm_grad.cu: the template of RMS normalisation's gradients, of x and of what each chunk of rows adds to that of the
// weight: one pass over the activations. A block takes a chunk, so their number does not come from the grid but from the
// caller; it goes down the rows with a thread's columns of the sums in registers, and reads a row while it is still busy with the one
// before. Where dx, as it is stored, is to be summed as well, those sums take the registers of the weight.
//   With d = dy * w and n = x * rstd: dx = rstd * (d - n * the mean of d * n).
//
// Slots: those of rms_norm_grad.cu.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// A panel's columns of dx and of the sums, of one chunk's rows.
template <int width, bool sums_dx> MP_DEVICE void tmpl_rms_norm_grad_panel(mp_team &team, real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ dx_sums, const real *dy, const real *x, const full *rstd, const full *w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunk, long chunks)
{
	enum { held = MP_HELD_SUMS(width) };
	const long from = rows * chunk / chunks, end = rows * (chunk + 1) / chunks;
	const full share = 1 / (full)cols;
	const auto weight = mp_hold_or_read<width, held, !sums_dx>(team, w);
	auto next_slope = mp_hold<width, held>(team, dy + from * cols), next_value = mp_hold<width, held>(team, x + from * cols);
	full weight_sum[held][width] = {}, dx_sum[held][width] = {};
	for (long row = from; row < end; row++) {
		const auto slope = next_slope, value = next_value;
		const full scale = rstd[row];
		const long first = row * cols, next = row + 1 < end ? first + cols : first;
		//@ optional reads
		//@ end
		next_slope = mp_hold<width, held>(team, dy + next);
		next_value = mp_hold<width, held>(team, x + next);
		full sum[1];
		mp_sum_strips<width>(team, sum, [](auto strip, long, full (&add)[1], auto dy, auto x, auto w) {
			for (int e = 0; e < strip; e++)
				add[0] = mp_multiply_add(dy[e] * w[e], (full)x[e], add[0]);
		}, slope, value, weight);
		const full slant = sum[0] * scale * share * scale;
		mp_each_held<width>(team, [&](int k, long c, int elements, auto dy, auto x, auto w) {
			//@ optional strips
			//@ end
			real to[width];
			for (int e = 0; e < elements; e++) {
				const full n = x[e] * scale;
				const full t0 = mp_multiply_add(dy[e] * w[e], scale, -slant * n);
				//@ optional result
				to[e] = t0;
				//@ end
				weight_sum[k][e] = mp_multiply_add((full)dy[e], n, weight_sum[k][e]);
				if (sums_dx)
					dx_sum[k][e] += (full)to[e];
			}
			mp_store<width>(dx + first + c, to, elements);
		}, slope, value, weight);
	}
	mp_each_held<width>(team, [&](int k, long c, int elements, auto) {
		mp_store<width>(weight_sums + chunk * cols + c, weight_sum[k], elements);
		if (sums_dx)
			mp_store<width>(dx_sums + chunk * cols + c, dx_sum[k], elements);
	}, next_slope);
}

template <int width, bool sums_dx> MP_DEVICE void tmpl_rms_norm_grad_chunks(real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ dx_sums, const real *dy, const real *x, const full *rstd, const full *w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunks)
{
	mp_team team = mp_block_team(cols);
	for (long chunk = team.row; chunk < chunks; chunk += team.stride)
		for (team.panel = 0; team.panel < cols; team.panel += mp_panel_columns<width, MP_HELD_SUMS(width)>(team))
			tmpl_rms_norm_grad_panel<width, sums_dx>(team, dx, weight_sums, dx_sums, dy, x, rstd, w,
				//@ optional arguments
				//@ end
				rows, cols, chunk, chunks);
}

template <bool sums_dx> static MP_BLOCK_TEAMS __global__ void tmpl_rms_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ dx_sums, const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ rstd,
	const full *__restrict__ w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunks, bool wide)
{
	if (wide)
		tmpl_rms_norm_grad_chunks<MP_PANEL(real), sums_dx>(dx, weight_sums, dx_sums, dy, x, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks);
	else
		tmpl_rms_norm_grad_chunks<MP_NARROW_PANEL, sums_dx>(dx, weight_sums, dx_sums, dy, x, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks);
}

// dx: real[rows, cols] = the gradient of x: real[rows, cols] from dy: real[rows, cols]
// weight_sums: full[chunks, cols] = the sums over a chunk's rows of dy * x * rstd; chunk j has the rows [rows * j / chunks,
// rows * (j + 1) / chunks); rstd: full[rows] of rms_norm; w: full[cols]
// dx_sums: full[chunks, cols] = the same sums of dx; NULL: not wanted
//@ optional comment
//@ end
void tmpl_rms_norm_grad(real *dx, full *weight_sums, full *dx_sums, const real *dy, const real *x, const full *rstd, const full *w,
	//@ optional parameters
	//@ end
	long rows, long cols, long chunks, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, dx, dy, x, w,
		//@ optional addresses
		//@ end
		weight_sums, dx_sums);
	const int width = wide ? MP_PANEL(real) : MP_NARROW_PANEL;
	if (dx_sums)
		MP_LAUNCH(tmpl_rms_norm_grad_kernel<true>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, dx_sums, dy, x, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks, wide);
	else
		MP_LAUNCH(tmpl_rms_norm_grad_kernel<false>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, NULL, dy, x, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks, wide);
}
