// layer_norm_grad.cu: the template of layer normalisation's gradients, of x and of what each chunk of rows adds to those of
// weight and bias: one pass over the activations. A block takes a chunk, so their number does not come from the grid but
// from the caller; it goes down the rows with a thread's columns of the sums in registers.
//   With d = dy * w and n = (x - mean) * rstd: dx = rstd * (d - the mean of d - n * the mean of d * n).
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// The means over a row of d and of d * n.
template <int width> MP_DEVICE mp_pair<full> tmpl_layer_norm_grad_means(const real *dy, const real *x, const full *w, full center,
		full scale, long cols)
{
	full sums[2];
	mp_sum_strips<width>(cols, sums, [=](auto strip, long c, full (&add)[2]) {
		const auto slope = mp_load<strip>(dy + c), value = mp_load<strip>(x + c);
		const auto weight = mp_load<strip>(w + c);
		for (int e = 0; e < strip; e++) {
			const full d = slope[e] * weight[e];
			add[0] += d;
			add[1] += d * (value[e] - center);
		}
	});
	return {sums[0] / (full)cols, sums[1] * scale / (full)cols};
}

template <int strip, int width> MP_DEVICE void tmpl_layer_norm_grad_chunk(real *__restrict__ dx, full *__restrict__ weight_sums,
		full *__restrict__ bias_sums, const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ mean,
		const full *__restrict__ rstd, const full *__restrict__ w, long rows, long cols)
{
	for (long panel = 0; panel < cols; panel += (long)blockDim.x * width * MP_PANELS) {
		full weight_sum[MP_PANELS][width] = {}, bias_sum[MP_PANELS][width] = {};
		for (long row = 0; row < rows; row++) {
			const full center = mean[row], scale = rstd[row];
			const long first = row * cols;
			const mp_pair<full> means = tmpl_layer_norm_grad_means<strip>(dy + first, x + first, w, center, scale, cols);
			mp_each_panel<width>(panel, cols, [&](int k, long c, int elements) {
				const auto slope = mp_load<width>(dy + first + c), value = mp_load<width>(x + first + c);
				const auto weight = mp_load<width>(w + c);
				real to[width];
				for (int e = 0; e < elements; e++) {
					const full n = (value[e] - center) * scale;
					to[e] = scale * (slope[e] * weight[e] - means.a - n * means.b);
					weight_sum[k][e] += slope[e] * n;
					bias_sum[k][e] += slope[e];
				}
				mp_store<width>(dx + first + c, to, elements);
			});
		}
		mp_each_panel<width>(panel, cols, [&](int k, long c, int elements) {
			for (int e = 0; e < elements; e++) {
				weight_sums[c + e] = weight_sum[k][e];
				bias_sums[c + e] = bias_sum[k][e];
			}
		});
	}
}

static MP_ROW_BLOCKS __global__ void tmpl_layer_norm_grad_kernel(real *__restrict__ dx, full *__restrict__ weight_sums,
		full *__restrict__ bias_sums, const real *__restrict__ dy, const real *__restrict__ x, const full *__restrict__ mean,
		const full *__restrict__ rstd, const full *__restrict__ w, long rows, long cols, long chunks, bool wide)
{
	for (long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
		const long first = rows * chunk / chunks, count = rows * (chunk + 1) / chunks - first, at = first * cols;
		full *to_weight = weight_sums + chunk * cols, *to_bias = bias_sums + chunk * cols;
		if (wide)
			tmpl_layer_norm_grad_chunk<MP_STRIP(real), MP_PANEL(real)>(dx + at, to_weight, to_bias, dy + at, x + at,
					mean + first, rstd + first, w, count, cols);
		else
			tmpl_layer_norm_grad_chunk<1, MP_NARROW_PANEL>(dx + at, to_weight, to_bias, dy + at, x + at,
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
