// avg_pool_grad.cu: the template of avg_pool's gradient. Each pixel gathers from the windows that hold it: no atomics,
// and the terms of a sum are added in the order of the windows.
#include "mp_kernel.h"

typedef float real; //@ param

// A row of pixels; `rows` are the window rows that hold it.
template <int width>
MP_DEVICE void tmpl_avg_pool_grad_row(real *__restrict__ dx, const real *__restrict__ dy, long channels, mp_window down,
		mp_window across, mp_range rows, int counted, int lanes)
{
	for (int w = mp_pixel_first(lanes); w < across.extent; w += mp_pixel_stride(lanes)) {
		const mp_range columns = mp_positions(across, w);
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real sum[width];
			for (int k = 0; k < count; k++)
				sum[k] = 0;
			for (int p = rows.first; p < rows.end; p++)
				for (int q = columns.first; q < columns.end; q++) {
					const mp_range i = mp_taps(down, p), j = mp_taps(across, q);
					const int valid = (i.end - i.first) * (j.end - j.first);
					const real scale = 1 / (real)(counted > 0 ? counted : valid);
					const auto from = mp_load<width>(dy + ((long)p * across.count + q) * channels + c);
					for (int k = 0; k < count; k++)
						sum[k] += from[k] * scale;
				}
			mp_store<width>(dx + w * channels + c, sum, count);
		}
	}
}

static __global__ void tmpl_avg_pool_grad_kernel(real *__restrict__ dx, const real *__restrict__ dy, long n, long channels,
		mp_window down, mp_window across, int counted, int lanes, bool wide)
{
	down.dilation = across.dilation = 1; // which the compiler now knows
	for (long row = blockIdx.x; row < n * down.extent; row += gridDim.x) {
		const real *from = dy + row / down.extent * down.count * across.count * channels;
		real *to = dx + row * across.extent * channels;
		const mp_range rows = mp_positions(down, (int)(row % down.extent));
		if (wide)
			tmpl_avg_pool_grad_row<MP_WIDE(real)>(to, from, channels, down, across, rows, counted, lanes);
		else
			tmpl_avg_pool_grad_row<MP_NARROW>(to, from, channels, down, across, rows, counted, lanes);
	}
}

// dx: real[n, h, w, c] = for each pixel the sum over the windows that hold it of dy: real[n, p, q, c], divided as by
// avg_pool; windows as of avg_pool
void tmpl_avg_pool_grad(real *dx, const real *dy, long n, long h, long w, long c, long p, long q, int kh, int kw, int sh,
		int sw, int ph, int pw, bool count_padding, cudaStream_t stream)
{
	const mp_window down = {kh, sh, ph, 1, (int)h, (int)p}, across = {kw, sw, pw, 1, (int)w, (int)q};
	const bool wide = mp_wide<real>(c, dx, dy);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	MP_LAUNCH(tmpl_avg_pool_grad_kernel, mp_row_blocks(n * h), mp_pixel_threads(w, lanes), stream,
			dx, dy, n, c, down, across, count_padding ? kh * kw : 0, lanes, wide);
}
