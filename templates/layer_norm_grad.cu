// layer_norm_grad.cu: the template of layer normalisation's gradients, of x and of what each chunk of rows adds to those of
// weight and bias: one pass over the activations. A block takes a chunk, so their number does not come from the grid but
// from the caller; it goes down the rows with a thread's columns of the sums in registers.
//   With d = dy * w and n = (x - mean) * rstd: dx = rstd * (d - the mean of d - n * the mean of d * n).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// Up to MP_TOGETHER rows, of which `count` are there: their sums of d and of d * n, as means. x and dy are at the first.
template <int width> MP_DEVICE void tmpl_layer_norm_grad_means(full (&means)[2 * MP_TOGETHER], const real *dy, const real *x,
		const full *w, const full (&center)[MP_TOGETHER], const full (&scale)[MP_TOGETHER], int count, long cols)
{
	mp_sum_strips<width>(cols, means, [&](auto strip, long c, full (&add)[2 * MP_TOGETHER]) {
		const auto weight = mp_load<strip>(w + c);
		for (int r = 0; r < MP_TOGETHER; r++) {
			const long at = (r < count ? r : 0) * cols + c;
			const auto slope = mp_load<strip>(dy + at);
			const auto value = mp_load<strip>(x + at);
			for (int e = 0; e < strip; e++) {
				const full d = slope[e] * weight[e];
				add[2 * r] += d;
				add[2 * r + 1] += d * (value[e] - center[r]);
			}
		}
	});
	for (int r = 0; r < MP_TOGETHER; r++) {
		means[2 * r] /= (full)cols;
		means[2 * r + 1] *= scale[r] / (full)cols;
	}
}

template <int strip, int width, int strips> MP_DEVICE void tmpl_layer_norm_grad_chunk(real *__restrict__ dx, full *__restrict__ weight_sums,
		full *__restrict__ bias_sums, const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ mean,
		const full *__restrict__ rstd, const full *__restrict__ w, long rows, long cols)
{
	for (long panel = 0; panel < cols; panel += (long)blockDim.x * width * strips) {
		full weight_sum[strips][width] = {}, bias_sum[strips][width] = {};
		for (long row = 0; row < rows; row += MP_TOGETHER) {
			const int count = rows - row < MP_TOGETHER ? (int)(rows - row) : MP_TOGETHER;
			full center[MP_TOGETHER], scale[MP_TOGETHER], means[2 * MP_TOGETHER];
			for (int r = 0; r < MP_TOGETHER; r++) {
				center[r] = mean[row + (r < count ? r : 0)];
				scale[r] = rstd[row + (r < count ? r : 0)];
			}
			tmpl_layer_norm_grad_means<strip>(means, dy + row * cols, x + row * cols, w, center, scale, count, cols);
			mp_each_panel<width, strips>(panel, cols, [&](int k, long c, int elements) {
				const auto weight = mp_load<width>(w + c);
				for (int r = 0; r < MP_TOGETHER && r < count; r++) {
					const long at = (row + r) * cols + c;
					const auto slope = mp_load<width>(dy + at);
					const auto value = mp_load<width>(x + at);
					real to[width];
					for (int e = 0; e < elements; e++) {
						const full n = (value[e] - center[r]) * scale[r];
						to[e] = scale[r] * (slope[e] * weight[e] - means[2 * r] - n * means[2 * r + 1]);
						weight_sum[k][e] += slope[e] * n;
						bias_sum[k][e] += slope[e];
					}
					mp_store<width>(dx + at, to, elements);
				}
			});
		}
		mp_each_panel<width, strips>(panel, cols, [&](int k, long c, int elements) {
			for (int e = 0; e < elements; e++) {
				weight_sums[c + e] = weight_sum[k][e];
				bias_sums[c + e] = bias_sum[k][e];
			}
		});
	}
}

static MP_BIG_BLOCKS __global__ void tmpl_layer_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
		full *__restrict__ bias_sums, const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ mean,
		const full *__restrict__ rstd, const full *__restrict__ w, long rows, long cols, long chunks, bool wide)
{
	for (long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
		const long first = rows * chunk / chunks, count = rows * (chunk + 1) / chunks - first, at = first * cols;
		full *to_weight = weight_sums + chunk * cols, *to_bias = bias_sums + chunk * cols;
		if (wide)
			tmpl_layer_norm_grad_chunk<MP_STRIP(real), MP_PANEL(real), MP_PANELS>(dx + at, to_weight, to_bias, dy + at, x + at,
					mean + first, rstd + first, w, count, cols);
		else
			tmpl_layer_norm_grad_chunk<1, MP_NARROW_PANEL, MP_PANELS>(dx + at, to_weight, to_bias, dy + at, x + at,
					mean + first, rstd + first, w, count, cols);
	}
}

// dx: real[rows, cols] = the gradient of x: real[rows, cols] from dy: real[rows, cols]
// weight_sums, bias_sums: full[chunks, cols] = the sums over a chunk's rows of dy * (x - mean) * rstd and of dy; chunk j has the
// rows [rows * j / chunks, rows * (j + 1) / chunks); mean, rstd: full[rows] of layer_norm; w: full[cols]
void tmpl_layer_norm_grad(real *dx, full *weight_sums, full *bias_sums, const real *dy, const real *x, const full *mean,
		const full *rstd, const full *w, long rows, long cols, long chunks, cudaStream_t stream)
{
	const bool wide = mp_wide<real>(cols, dx, dy, x, w);
	MP_LAUNCH(tmpl_layer_norm_grad_kernel, mp_row_blocks(chunks), mp_strip_threads(cols, wide ? MP_STRIP(real) : 1), stream,
			dx, weight_sums, bias_sums, dy, x, mean, rstd, w, rows, cols, chunks, wide);
}
