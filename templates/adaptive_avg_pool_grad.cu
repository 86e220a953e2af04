// adaptive_avg_pool_grad.cu: the template of adaptive_avg_pool's gradient. Each pixel gathers from the bins that hold
// it: no atomics, and the terms of a sum are added in the order of the bins.
#include "mp_kernel.h"

typedef float real; //@ param

// The bins that hold a pixel: bin i has the pixels [i * extent / bins, ceil((i + 1) * extent / bins)).
MP_DEVICE mp_range tmpl_adaptive_avg_pool_grad_bins(int pixel, int extent, int bins)
{
	return {(int)((unsigned)pixel * bins / extent), (int)(((unsigned)(pixel + 1) * bins + extent - 1) / extent)};
}

// The number of pixels in a bin.
MP_DEVICE int tmpl_adaptive_avg_pool_grad_size(int bin, int extent, int bins)
{
	return (int)(((unsigned)(bin + 1) * extent + bins - 1) / bins - (unsigned)bin * extent / bins);
}

// A row of pixels; `rows` are the rows of bins that hold it.
template <int width>
MP_DEVICE void tmpl_adaptive_avg_pool_grad_row(real *__restrict__ dx, const real *__restrict__ dy, long channels,
		mp_range rows, int height, int extent, int p_bins, int q_bins, int lanes)
{
	for (int w = mp_pixel_first(lanes); w < extent; w += mp_pixel_stride(lanes)) {
		const mp_range columns = tmpl_adaptive_avg_pool_grad_bins(w, extent, q_bins);
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real sum[width];
			for (int k = 0; k < count; k++)
				sum[k] = 0;
			for (int p = rows.first; p < rows.end; p++)
				for (int q = columns.first; q < columns.end; q++) {
					const real scale = 1 / (real)(tmpl_adaptive_avg_pool_grad_size(p, height, p_bins)
						* tmpl_adaptive_avg_pool_grad_size(q, extent, q_bins));
					const auto from = mp_load<width>(dy + ((long)p * q_bins + q) * channels + c);
					for (int k = 0; k < count; k++)
						sum[k] += from[k] * scale;
				}
			mp_store<width>(dx + w * channels + c, sum, count);
		}
	}
}

static __global__ void tmpl_adaptive_avg_pool_grad_kernel(real *__restrict__ dx, const real *__restrict__ dy, long n,
		int height, int extent, long channels, int p, int q, int lanes, bool wide)
{
	for (long row = blockIdx.x; row < n * height; row += gridDim.x) {
		const mp_range rows = tmpl_adaptive_avg_pool_grad_bins((int)(row % height), height, p);
		const real *from = dy + row / height * p * q * channels;
		real *to = dx + row * extent * channels;
		if (wide)
			tmpl_adaptive_avg_pool_grad_row<MP_WIDE(real)>(to, from, channels, rows, height, extent, p, q, lanes);
		else
			tmpl_adaptive_avg_pool_grad_row<MP_NARROW>(to, from, channels, rows, height, extent, p, q, lanes);
	}
}

// dx: real[n, h, w, c] = for each pixel the sum over the bins that hold it of dy: real[n, p, q, c] / pixels of the
// bin; bins as of adaptive_avg_pool
void tmpl_adaptive_avg_pool_grad(real *dx, const real *dy, long n, long h, long w, long c, long p, long q,
		cudaStream_t stream)
{
	const bool wide = mp_wide<real>(c, dx, dy);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	MP_LAUNCH(tmpl_adaptive_avg_pool_grad_kernel, mp_row_blocks(n * h), mp_pixel_threads(w, lanes), stream,
			dx, dy, n, (int)h, (int)w, c, (int)p, (int)q, lanes, wide);
}
