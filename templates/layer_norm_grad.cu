// layer_norm_grad.cu: the template of layer normalisation's gradients, of x and of what each chunk of rows adds to those of
// weight and bias: one pass over the activations. A block takes a chunk, so their number does not come from the grid but
// from the caller; it goes down the rows with a thread's columns of the sums in registers, and reads a row while it is still busy
// with the one before. Where dx, as it is stored, is to be summed as well, those sums take the registers of the weight.
//   With d = dy * w and n = (x - mean) * rstd: dx = rstd * (d - the mean of d - n * the mean of d * n).
//
// Slots, empty where element-wise ops of dx and x0, x1, … do not follow: comment; kernel_parameters, parameters, arguments and
// addresses, as in elementwise.cu; reads, which holds their rows; strips, which takes one strip of each; result: from t0, an element of
// dx, to[e].
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// A panel's columns of dx and of the sums, of one chunk's rows.
template <int width, bool sums_dx> MP_DEVICE void tmpl_layer_norm_grad_panel(mp_team &team, real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ bias_sums, full *__restrict__ dx_sums, const real *dy, const real *x, const full *mean, const full *rstd,
	const full *w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunk, long chunks)
{
	enum { held = MP_HELD_SUMS(width) };
	const long from = rows * chunk / chunks, end = rows * (chunk + 1) / chunks;
	const full share = 1 / (full)cols;
	const auto weight = mp_hold_or_read<width, held, !sums_dx>(team, w);
	auto next_slope = mp_hold<width, held>(team, dy + from * cols), next_value = mp_hold<width, held>(team, x + from * cols);
	full weight_sum[held][width] = {}, bias_sum[held][width] = {}, dx_sum[held][width] = {};
	for (long row = from; row < end; row++) {
		const auto slope = next_slope, value = next_value;
		const full scale = rstd[row], start = -mean[row] * scale;
		const long first = row * cols, next = row + 1 < end ? first + cols : first;
		//@ optional reads
		//@ end
		next_slope = mp_hold<width, held>(team, dy + next);
		next_value = mp_hold<width, held>(team, x + next);
		full sums[2];
		mp_sum_strips<width>(team, sums, [=](auto strip, long, full (&add)[2], auto dy, auto x, auto w) {
			for (int e = 0; e < strip; e++) {
				const full d = dy[e] * w[e];
				add[0] += d;
				add[1] = mp_multiply_add(d, mp_multiply_add((full)x[e], scale, start), add[1]);
			}
		}, slope, value, weight);
		const full shift = sums[0] * share * scale, slant = sums[1] * share * scale;
		mp_each_held<width>(team, [&](int k, long c, int elements, auto dy, auto x, auto w) {
			//@ optional strips
			//@ end
			real to[width];
			for (int e = 0; e < elements; e++) {
				const full n = mp_multiply_add((full)x[e], scale, start);
				const full t0 = mp_multiply_add(dy[e] * w[e], scale, mp_multiply_add(n, -slant, -shift));
				//@ optional result
				to[e] = t0;
				//@ end
				weight_sum[k][e] = mp_multiply_add((full)dy[e], n, weight_sum[k][e]);
				bias_sum[k][e] += dy[e];
				if (sums_dx)
					dx_sum[k][e] += (full)to[e];
			}
			mp_store<width>(dx + first + c, to, elements);
		}, slope, value, weight);
	}
	mp_each_held<width>(team, [&](int k, long c, int elements, auto) {
		mp_store<width>(weight_sums + chunk * cols + c, weight_sum[k], elements);
		mp_store<width>(bias_sums + chunk * cols + c, bias_sum[k], elements);
		if (sums_dx)
			mp_store<width>(dx_sums + chunk * cols + c, dx_sum[k], elements);
	}, next_slope);
}

template <int width, bool sums_dx> MP_DEVICE void tmpl_layer_norm_grad_chunks(real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ bias_sums, full *__restrict__ dx_sums, const real *dy, const real *x, const full *mean, const full *rstd,
	const full *w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunks)
{
	mp_team team = mp_block_team(cols);
	for (long chunk = team.row; chunk < chunks; chunk += team.stride)
		for (team.panel = 0; team.panel < cols; team.panel += mp_panel_columns<width, MP_HELD_SUMS(width)>(team))
			tmpl_layer_norm_grad_panel<width, sums_dx>(team, dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
				//@ optional arguments
				//@ end
				rows, cols, chunk, chunks);
}

template <bool sums_dx> static MP_BLOCK_TEAMS __global__ void tmpl_layer_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
	full *__restrict__ bias_sums, full *__restrict__ dx_sums, const real *__restrict__ dy, const real *__restrict__ x,
	const full *__restrict__ mean, const full *__restrict__ rstd, const full *__restrict__ w,
	//@ optional kernel_parameters
	//@ end
	long rows, long cols, long chunks, bool wide)
{
	if (wide)
		tmpl_layer_norm_grad_chunks<MP_PANEL(real), sums_dx>(dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks);
	else
		tmpl_layer_norm_grad_chunks<MP_NARROW_PANEL, sums_dx>(dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks);
}

// dx: real[rows, cols] = the gradient of x: real[rows, cols] from dy: real[rows, cols]
// weight_sums, bias_sums: full[chunks, cols] = the sums over a chunk's rows of dy * (x - mean) * rstd and of dy; chunk j has the
// rows [rows * j / chunks, rows * (j + 1) / chunks); mean, rstd: full[rows] of layer_norm; w: full[cols]
// dx_sums: full[chunks, cols] = the same sums of dx; NULL: not wanted
//@ optional comment
//@ end
void tmpl_layer_norm_grad(real *dx, full *weight_sums, full *bias_sums, full *dx_sums, const real *dy, const real *x,
	const full *mean, const full *rstd, const full *w,
	//@ optional parameters
	//@ end
	long rows, long cols, long chunks, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, dx, dy, x, w,
		//@ optional addresses
		//@ end
		weight_sums, bias_sums, dx_sums);
	const int width = wide ? MP_PANEL(real) : MP_NARROW_PANEL;
	if (dx_sums)
		MP_LAUNCH(tmpl_layer_norm_grad_kernel<true>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks, wide);
	else
		MP_LAUNCH(tmpl_layer_norm_grad_kernel<false>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, bias_sums, NULL, dy, x, mean, rstd, w,
			//@ optional arguments
			//@ end
			rows, cols, chunks, wide);
}
