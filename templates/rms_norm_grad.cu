// rms_norm_grad.cu: the template of RMS normalisation's gradients, of x and of what each chunk of rows adds to that of the
// weight: one pass over the activations. A block takes a chunk, so their number does not come from the grid but from the
// caller; it goes down the rows with a thread's columns of the sums in registers.
//   With d = dy * w and n = x * rstd: dx = rstd * (d - n * the mean of d * n).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// The mean over a row of d * n.
template <int width> MP_DEVICE full tmpl_rms_norm_grad_mean(const real *dy, const real *x, const full *w, full scale, long cols)
{
	full sum[1];
	mp_sum_strips<width>(cols, sum, [=](auto strip, long c, full (&add)[1]) {
		const auto slope = mp_load<strip>(dy + c), value = mp_load<strip>(x + c);
		const auto weight = mp_load<strip>(w + c);
		for (int e = 0; e < strip; e++)
			add[0] += slope[e] * weight[e] * value[e];
	});
	return sum[0] * scale / (full)cols;
}

template <int strip, int width> MP_DEVICE void tmpl_rms_norm_grad_chunk(real *__restrict__ dx, full *__restrict__ weight_sums,
		const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ rstd, const full *__restrict__ w,
		long rows, long cols)
{
	for (long panel = 0; panel < cols; panel += (long)blockDim.x * width * MP_PANELS) {
		full weight_sum[MP_PANELS][width] = {};
		for (long row = 0; row < rows; row++) {
			const full scale = rstd[row];
			const long first = row * cols;
			const full mean = tmpl_rms_norm_grad_mean<strip>(dy + first, x + first, w, scale, cols);
			mp_each_panel<width>(panel, cols, [&](int k, long c, int elements) {
				const auto slope = mp_load<width>(dy + first + c), value = mp_load<width>(x + first + c);
				const auto weight = mp_load<width>(w + c);
				real to[width];
				for (int e = 0; e < elements; e++) {
					const full n = value[e] * scale;
					to[e] = scale * (slope[e] * weight[e] - n * mean);
					weight_sum[k][e] += slope[e] * n;
				}
				mp_store<width>(dx + first + c, to, elements);
			});
		}
		mp_each_panel<width>(panel, cols, [&](int k, long c, int elements) {
			for (int e = 0; e < elements; e++)
				weight_sums[c + e] = weight_sum[k][e];
		});
	}
}

static MP_ROW_BLOCKS __global__ void tmpl_rms_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
		const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ rstd, const full *__restrict__ w,
		long rows, long cols, long chunks, bool wide)
{
	for (long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
		const long first = rows * chunk / chunks, count = rows * (chunk + 1) / chunks - first, at = first * cols;
		if (wide)
			tmpl_rms_norm_grad_chunk<MP_STRIP(real), MP_PANEL(real)>(dx + at, weight_sums + chunk * cols, dy + at, x + at,
					rstd + first, w, count, cols);
		else
			tmpl_rms_norm_grad_chunk<1, MP_NARROW_PANEL>(dx + at, weight_sums + chunk * cols, dy + at, x + at,
					rstd + first, w, count, cols);
	}
}

// dx: real[rows, cols] = the gradient of x: real[rows, cols] from dy: real[rows, cols]
// weight_sums: full[chunks, cols] = the sums over a chunk's rows of dy * x * rstd; chunk j has the rows [rows * j / chunks,
// rows * (j + 1) / chunks); rstd: full[rows] of rms_norm; w: full[cols]
void tmpl_rms_norm_grad(real *dx, full *weight_sums, const real *dy, const real *x, const full *rstd, const full *w, long rows,
		long cols, long chunks, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, dx, dy, x, w);
	MP_LAUNCH(tmpl_rms_norm_grad_kernel, mp_row_blocks(chunks), mp_strip_threads(cols, wide ? MP_STRIP(real) : 1), stream,
			dx, weight_sums, dy, x, rstd, w, rows, cols, chunks, wide);
}
