// ---- layer_norm_grad_add: from templates/layer_norm_grad.cu

// A panel's columns of dx and of the sums, of one chunk's rows.
template <int width, bool sums_dx> MP_DEVICE void layer_norm_grad_add_panel(mp_team &team, float *__restrict__ dx, float *__restrict__ weight_sums,
	float *__restrict__ bias_sums, float *__restrict__ dx_sums, const float *dy, const float *x, const float *mean, const float *rstd,
	const float *w,
	const float *__restrict__ x0,
	long rows, long cols, long chunk, long chunks)
{
	enum { held = MP_HELD_SUMS(width) };
	const long from = rows * chunk / chunks, end = rows * (chunk + 1) / chunks;
	const float share = 1 / (float)cols;
	const auto weight = mp_hold_or_read<width, held, !sums_dx>(team, w);
	auto next_slope = mp_hold<width, held>(team, dy + from * cols), next_value = mp_hold<width, held>(team, x + from * cols);
	float weight_sum[held][width] = {}, bias_sum[held][width] = {}, dx_sum[held][width] = {};
	for (long row = from; row < end; row++) {
		const auto slope = next_slope, value = next_value;
		const float scale = rstd[row], start = -mean[row] * scale;
		const long first = row * cols, next = row + 1 < end ? first + cols : first;
		const auto held0 = mp_hold<width, held>(team, x0 + first);
		next_slope = mp_hold<width, held>(team, dy + next);
		next_value = mp_hold<width, held>(team, x + next);
		float sums[2];
		mp_sum_strips<width>(team, sums, [=](auto strip, long, float (&add)[2], auto dy, auto x, auto w) {
			for (int e = 0; e < strip; e++) {
				const float d = dy[e] * w[e];
				add[0] += d;
				add[1] = mp_multiply_add(d, mp_multiply_add((float)x[e], scale, start), add[1]);
			}
		}, slope, value, weight);
		const float shift = sums[0] * share * scale, slant = sums[1] * share * scale;
		mp_each_held<width>(team, [&](int k, long c, int elements, auto dy, auto x, auto w) {
			const auto in0 = held0.at(k, c);
			float to[width];
			for (int e = 0; e < elements; e++) {
				const float n = mp_multiply_add((float)x[e], scale, start);
				const float t0 = mp_multiply_add(dy[e] * w[e], scale, mp_multiply_add(n, -slant, -shift));
				float t1 = mp_add(in0[e], t0);
				to[e] = t1;
				weight_sum[k][e] = mp_multiply_add((float)dy[e], n, weight_sum[k][e]);
				bias_sum[k][e] += dy[e];
				if (sums_dx)
					dx_sum[k][e] += (float)to[e];
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

template <int width, bool sums_dx> MP_DEVICE void layer_norm_grad_add_chunks(float *__restrict__ dx, float *__restrict__ weight_sums,
	float *__restrict__ bias_sums, float *__restrict__ dx_sums, const float *dy, const float *x, const float *mean, const float *rstd,
	const float *w,
	const float *__restrict__ x0,
	long rows, long cols, long chunks)
{
	mp_team team = mp_block_team(cols);
	for (long chunk = team.row; chunk < chunks; chunk += team.stride)
		for (team.panel = 0; team.panel < cols; team.panel += mp_panel_columns<width, MP_HELD_SUMS(width)>(team))
			layer_norm_grad_add_panel<width, sums_dx>(team, dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
				x0,
				rows, cols, chunk, chunks);
}

template <bool sums_dx> static MP_BLOCK_TEAMS __global__ void layer_norm_grad_add_kernel(float *__restrict__ dx, float *__restrict__ weight_sums,
	float *__restrict__ bias_sums, float *__restrict__ dx_sums, const float *__restrict__ dy, const float *__restrict__ x,
	const float *__restrict__ mean, const float *__restrict__ rstd, const float *__restrict__ w,
	const float *__restrict__ x0,
	long rows, long cols, long chunks, bool wide)
{
	if (wide)
		layer_norm_grad_add_chunks<MP_PANEL(float), sums_dx>(dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			x0,
			rows, cols, chunks);
	else
		layer_norm_grad_add_chunks<MP_NARROW_PANEL, sums_dx>(dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			x0,
			rows, cols, chunks);
}

// dx: float[rows, cols] = the gradient of x: float[rows, cols] from dy: float[rows, cols]
// weight_sums, bias_sums: float[chunks, cols] = the sums over a chunk's rows of dy * (x - mean) * rstd and of dy; chunk j has the
// rows [rows * j / chunks, rows * (j + 1) / chunks); mean, rstd: float[rows] of layer_norm; w: float[cols]
// dx_sums: float[chunks, cols] = the same sums of dx; NULL: not wanted
// With t0 for what is dx above, dx = add(x0, t0); x0 and so on have its shape
void layer_norm_grad_add(float *dx, float *weight_sums, float *bias_sums, float *dx_sums, const float *dy, const float *x,
	const float *mean, const float *rstd, const float *w,
	const float *x0,
	long rows, long cols, long chunks, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(cols, dx, dy, x, w,
		x0,
		weight_sums, bias_sums, dx_sums);
	const int width = wide ? MP_PANEL(float) : MP_NARROW_PANEL;
	if (dx_sums)
		MP_LAUNCH(layer_norm_grad_add_kernel<true>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, bias_sums, dx_sums, dy, x, mean, rstd, w,
			x0,
			rows, cols, chunks, wide);
	else
		MP_LAUNCH(layer_norm_grad_add_kernel<false>, mp_row_blocks(chunks), mp_block_team_threads(cols, width), stream,
			dx, weight_sums, bias_sums, NULL, dy, x, mean, rstd, w,
			x0,
			rows, cols, chunks, wide);
}
