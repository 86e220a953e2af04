// avg_pool.cu: the template of the mean of each window's pixels, channel by channel. Padding counts as zeros that are
// pixels, or not at all.
#include "mp_kernel.h"

typedef float real; //@ param

// A row of windows' results; `rows` are the image's rows in the windows.
template <int width>
MP_DEVICE void tmpl_avg_pool_row(real *__restrict__ y, const real *__restrict__ image, long channels, mp_range rows,
		mp_window across, int counted, int lanes)
{
	for (int q = mp_pixel_first(lanes); q < across.count; q += mp_pixel_stride(lanes)) {
		const mp_range taps = mp_taps(across, q);
		const int left = q * across.stride - across.padding;
		const int valid = (rows.end - rows.first) * (taps.end - taps.first);
		const real scale = 1 / (real)(counted > 0 ? counted : valid > 0 ? valid : 1);
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real sum[width];
			for (int k = 0; k < count; k++)
				sum[k] = 0;
			for (int h = rows.first; h < rows.end; h++) {
				const real *row = image + ((long)h * across.extent + left) * channels + c;
				MP_UNROLL
				for (int j = taps.first; j < taps.end; j++) {
					const auto from = mp_load<width>(row + j * channels);
					for (int k = 0; k < count; k++)
						sum[k] += from[k];
				}
			}
			for (int k = 0; k < count; k++)
				sum[k] *= scale;
			mp_store<width>(y + q * channels + c, sum, count);
		}
	}
}

static __global__ void tmpl_avg_pool_kernel(real *__restrict__ y, const real *__restrict__ x, long n, long channels,
		mp_window down, mp_window across, int counted, int lanes, bool wide)
{
	down.dilation = across.dilation = 1; // which the compiler now knows
	for (long row = blockIdx.x; row < n * down.count; row += gridDim.x) {
		const int p = (int)(row % down.count), top = p * down.stride - down.padding;
		const real *image = x + row / down.count * down.extent * across.extent * channels;
		real *to = y + row * across.count * channels;
		mp_range rows = mp_taps(down, p);
		rows = {top + rows.first, top + rows.end};
		if (wide)
			tmpl_avg_pool_row<MP_WIDE(real)>(to, image, channels, rows, across, counted, lanes);
		else
			tmpl_avg_pool_row<MP_NARROW>(to, image, channels, rows, across, counted, lanes);
	}
}

// y: real[n, p, q, c] = the sums of the windows of x: real[n, h, w, c], divided by kh * kw when count_padding, else by
// how many of their pixels lie inside the image
// Windows are kh x kw pixels with steps sh and sw and padding ph and pw.
void tmpl_avg_pool(real *y, const real *x, long n, long h, long w, long c, long p, long q, int kh, int kw, int sh, int sw,
		int ph, int pw, bool count_padding, cudaStream_t stream)
{
	const mp_window down = {kh, sh, ph, 1, (int)h, (int)p}, across = {kw, sw, pw, 1, (int)w, (int)q};
	const bool wide = mp_wide<real>(c, y, x);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	MP_LAUNCH(tmpl_avg_pool_kernel, mp_row_blocks(n * p), mp_pixel_threads(q, lanes), stream,
			y, x, n, c, down, across, count_padding ? kh * kw : 0, lanes, wide);
}
