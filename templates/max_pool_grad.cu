// max_pool_grad.cu: the template of max_pool's gradient. Each pixel gathers from the windows that may hold it: no
// atomics, and the terms of a sum are added in the order of the windows.
#include "mp_kernel.h"

typedef float real; //@ param

// A row of pixels, the first of them number `first` of the image; `rows` are the window rows that may hold it.
template <int width>
MP_DEVICE void tmpl_max_pool_grad_row(real *__restrict__ dx, const real *__restrict__ dy, const int *__restrict__ at,
		long channels, mp_window across, int first, mp_range rows, int lanes)
{
	for (int w = mp_pixel_first(lanes); w < across.extent; w += mp_pixel_stride(lanes)) {
		const mp_range columns = mp_positions(across, w);
		const int pixel = first + w;
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real sum[width];
			for (int k = 0; k < count; k++)
				sum[k] = 0;
			for (int p = rows.first; p < rows.end; p++)
				for (int q = columns.first; q < columns.end; q++) {
					const long from = ((long)p * across.count + q) * channels + c;
					const auto slope = mp_load<width>(dy + from);
					const auto where = mp_load<width>(at + from);
					for (int k = 0; k < count; k++)
						sum[k] += where[k] == pixel ? slope[k] : 0;
				}
			mp_store<width>(dx + w * channels + c, sum, count);
		}
	}
}

static __global__ void tmpl_max_pool_grad_kernel(real *__restrict__ dx, const real *__restrict__ dy,
		const int *__restrict__ at, long n, long channels, mp_window down, mp_window across,
		int lanes, bool wide)
{
	for (long row = blockIdx.x; row < n * down.extent; row += gridDim.x) {
		const int h = (int)(row % down.extent), first = h * across.extent;
		const long from = row / down.extent * down.count * across.count * channels;
		real *to = dx + row * across.extent * channels;
		const mp_range rows = mp_positions(down, h);
		if (wide)
			tmpl_max_pool_grad_row<MP_WIDE(real)>(to, dy + from, at + from, channels, across, first, rows, lanes);
		else
			tmpl_max_pool_grad_row<MP_NARROW>(to, dy + from, at + from, channels, across, first, rows, lanes);
	}
}

// dx: real[n, h, w, c] = for each pixel the sum of dy: real[n, p, q, c] over the windows whose `at` it is
// at: int[n, p, q, c] and windows as of max_pool
void tmpl_max_pool_grad(real *dx, const real *dy, const int *at, long n, long h, long w, long c, long p, long q, int kh,
		int kw, int sh, int sw, int ph, int pw, int dh, int dw, cudaStream_t stream)
{
	const mp_window down = {kh, sh, ph, dh, (int)h, (int)p}, across = {kw, sw, pw, dw, (int)w, (int)q};
	const bool wide = mp_wide<real>(c, dx, dy, at);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	MP_LAUNCH(tmpl_max_pool_grad_kernel, mp_row_blocks(n * h), mp_pixel_threads(w, lanes), stream,
			dx, dy, at, n, c, down, across, lanes, wide);
}
