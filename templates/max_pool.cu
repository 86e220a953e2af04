// max_pool.cu: the template of the largest pixel of each window, channel by channel, and where it lies, so that the
// gradient need not search again. PyTorch's rule: the first of equal ones in the order of rows and columns; a NaN is
// larger than anything before it. Padding counts as -infinity.
#include "mp_kernel.h"

typedef float real; //@ param

// A row of windows' results: `top` is the image row of a window's first tap, `image` the image.
template <int width>
MP_DEVICE void tmpl_max_pool_row(real *__restrict__ y, int *__restrict__ at, const real *__restrict__ image,
		long channels, mp_window down, mp_window across, int top, mp_range rows, int lanes)
{
	for (int q = mp_pixel_first(lanes); q < across.count; q += mp_pixel_stride(lanes)) {
		const int left = q * across.stride - across.padding;
		const mp_range columns = mp_taps(across, q);
		const int first = rows.first < rows.end && columns.first < columns.end
			? (top + rows.first * down.dilation) * across.extent + left + columns.first * across.dilation : -1;
		for (long c = mp_strip_first<width>(lanes); c < channels; c += mp_strip_stride<width>(lanes)) {
			const int count = mp_strip_width<width>(channels - c);
			real best[width];
			int where[width];
			for (int k = 0; k < count; k++) {
				best[k] = -(real)INFINITY;
				where[k] = first;
			}
			for (int i = rows.first; i < rows.end; i++)
				for (int j = columns.first; j < columns.end; j++) {
					const int pixel = (top + i * down.dilation) * across.extent + left + j * across.dilation;
					const auto from = mp_load<width>(image + pixel * channels + c);
					for (int k = 0; k < count; k++) {
						const real value = from[k];
						const bool take = value > best[k] || value != value;
						best[k] = take ? value : best[k];
						where[k] = take ? pixel : where[k];
					}
				}
			mp_store<width>(y + q * channels + c, best, count);
			mp_store<width>(at + q * channels + c, where, count);
		}
	}
}

static __global__ void tmpl_max_pool_kernel(real *__restrict__ y, int *__restrict__ at, const real *__restrict__ x, long n,
		long channels, mp_window down, mp_window across, int lanes, bool wide)
{
	for (long row = blockIdx.x; row < n * down.count; row += gridDim.x) {
		const int p = (int)(row % down.count), top = p * down.stride - down.padding;
		const real *image = x + row / down.count * down.extent * across.extent * channels;
		const long to = row * across.count * channels;
		const mp_range rows = mp_taps(down, p);
		if (wide)
			tmpl_max_pool_row<MP_WIDE(real)>(y + to, at + to, image, channels, down, across, top, rows, lanes);
		else
			tmpl_max_pool_row<MP_NARROW>(y + to, at + to, image, channels, down, across, top, rows, lanes);
	}
}

// y: real[n, p, q, c] = the largest pixels of the windows of x: real[n, h, w, c]; at: int[n, p, q, c] = row * w +
// column of each, -1 where a window lies in the padding
// Windows are kh x kw taps, dh and dw apart, with steps sh and sw and padding ph and pw.
void tmpl_max_pool(real *y, int *at, const real *x, long n, long h, long w, long c, long p, long q, int kh, int kw, int sh,
		int sw, int ph, int pw, int dh, int dw, cudaStream_t stream)
{
	const mp_window down = {kh, sh, ph, dh, (int)h, (int)p}, across = {kw, sw, pw, dw, (int)w, (int)q};
	const bool wide = mp_wide<real>(c, y, at, x);
	const int lanes = mp_pixel_lanes<real>(c, wide);
	MP_LAUNCH(tmpl_max_pool_kernel, mp_row_blocks(n * p), mp_pixel_threads(q, lanes), stream,
			y, at, x, n, c, down, across, lanes, wide);
}
