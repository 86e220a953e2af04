// rms_norm_grad.cu: the template of RMS normalisation's gradients, of x and of what each chunk of rows adds to that of the
// weight: one pass over the activations. A block takes a chunk, so their number does not come from the grid but from the
// caller; it goes down the rows with a thread's columns of the sums in registers.
//   With d = dy * w and n = x * rstd: dx = rstd * (d - n * the mean of d * n).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// Up to MP_TOGETHER rows, of which `count` are there: their means of d * n. x and dy are at the first.
template <int width> MP_DEVICE void tmpl_rms_norm_grad_means(full (&means)[MP_TOGETHER], const real *dy, const real *x,
		const full *w, const full (&scale)[MP_TOGETHER], int count, long cols)
{
	mp_sum_strips<width>(cols, means, [&](auto strip, long c, full (&add)[MP_TOGETHER]) {
		const auto weight = mp_load<strip>(w + c);
		for (int r = 0; r < MP_TOGETHER; r++) {
			const long at = (r < count ? r : 0) * cols + c;
			const auto slope = mp_load<strip>(dy + at);
			const auto value = mp_load<strip>(x + at);
			for (int e = 0; e < strip; e++)
				add[r] += slope[e] * weight[e] * value[e];
		}
	});
	for (int r = 0; r < MP_TOGETHER; r++)
		means[r] *= scale[r] / (full)cols;
}

template <int strip, int width, int strips> MP_DEVICE void tmpl_rms_norm_grad_chunk(real *__restrict__ dx, full *__restrict__ weight_sums,
		const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ rstd, const full *__restrict__ w,
		long rows, long cols)
{
	for (long panel = 0; panel < cols; panel += (long)blockDim.x * width * strips) {
		full weight_sum[strips][width] = {};
		for (long row = 0; row < rows; row += MP_TOGETHER) {
			const int count = rows - row < MP_TOGETHER ? (int)(rows - row) : MP_TOGETHER;
			full scale[MP_TOGETHER], means[MP_TOGETHER];
			for (int r = 0; r < MP_TOGETHER; r++)
				scale[r] = rstd[row + (r < count ? r : 0)];
			tmpl_rms_norm_grad_means<strip>(means, dy + row * cols, x + row * cols, w, scale, count, cols);
			mp_each_panel<width, strips>(panel, cols, [&](int k, long c, int elements) {
				const auto weight = mp_load<width>(w + c);
				for (int r = 0; r < MP_TOGETHER && r < count; r++) {
					const long at = (row + r) * cols + c;
					const auto slope = mp_load<width>(dy + at);
					const auto value = mp_load<width>(x + at);
					real to[width];
					for (int e = 0; e < elements; e++) {
						const full n = value[e] * scale[r];
						to[e] = scale[r] * (slope[e] * weight[e] - n * means[r]);
						weight_sum[k][e] += slope[e] * n;
					}
					mp_store<width>(dx + at, to, elements);
				}
			});
		}
		mp_each_panel<width, strips>(panel, cols, [&](int k, long c, int elements) {
			for (int e = 0; e < elements; e++)
				weight_sums[c + e] = weight_sum[k][e];
		});
	}
}

static MP_BIG_BLOCKS __global__ void tmpl_rms_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
		const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ rstd, const full *__restrict__ w,
		long rows, long cols, long chunks, bool wide)
{
	for (long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
		const long first = rows * chunk / chunks, count = rows * (chunk + 1) / chunks - first, at = first * cols;
		if (wide)
			tmpl_rms_norm_grad_chunk<MP_STRIP(real), MP_PANEL(real), MP_PANELS>(dx + at, weight_sums + chunk * cols, dy + at, x + at,
					rstd + first, w, count, cols);
		else
			tmpl_rms_norm_grad_chunk<1, MP_NARROW_PANEL, MP_PANELS>(dx + at, weight_sums + chunk * cols, dy + at, x + at,
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
