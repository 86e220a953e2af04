// ---- add_layer_norm: from templates/layer_norm.cu

template <int width> MP_DEVICE void add_layer_norm_row(mp_team &team, float *__restrict__ y, float *__restrict__ mean,
	float *__restrict__ rstd,
	float *__restrict__ x, const float *__restrict__ x0, const float *__restrict__ x1,
	const float *__restrict__ w, const float *__restrict__ b, long first, float eps)
{
	const auto held0 = mp_hold<width, MP_HELD>(team, x0 + first);
	const auto held1 = mp_hold<width, MP_HELD>(team, x1 + first);
	const auto row = mp_make<width>(team, x + first, [](auto strip, auto &to, auto in0, auto in1) {
		for (int e = 0; e < strip; e++) {
			float t0 = mp_add(in0[e], in1[e]);
			to[e] = t0;
		}
	}, held0, held1);
	const float share = 1 / (float)team.cols;
	float sum[1], squares[1];
	mp_sum_strips<width>(team, sum, [](auto strip, long, float (&add)[1], auto value) {
		for (int e = 0; e < strip; e++)
			add[0] += value[e];
	}, row);
	const float center = sum[0] * share;
	mp_sum_strips<width>(team, squares, [=](auto strip, long, float (&add)[1], auto value) {
		for (int e = 0; e < strip; e++) {
			const float d = value[e] - center;
			add[0] = mp_multiply_add(d, d, add[0]);
		}
	}, row);
	const float scale = 1 / mp_sqrt(squares[0] * share + eps), start = -center * scale;
	mp_each_strip<width>(team, [=](auto strip, long c, auto value) {
		const auto weight = mp_load<strip>(w + c), bias = mp_load<strip>(b ? b + c : w + c);
		float to[strip];
		for (int e = 0; e < strip; e++)
			to[e] = mp_multiply_add(mp_multiply_add((float)value[e], scale, start), weight[e], b ? bias[e] : 0);
		mp_store<strip>(y + first + c, to, strip);
	}, row);
	if (team.thread == 0) {
		*mean = center;
		*rstd = scale;
	}
}

template <int width> MP_DEVICE void add_layer_norm_rows(float *__restrict__ y, float *__restrict__ mean, float *__restrict__ rstd,
	float *__restrict__ x, const float *__restrict__ x0, const float *__restrict__ x1,
	const float *__restrict__ w, const float *__restrict__ b, long rows, long cols, float eps)
{
	mp_team team = mp_row_team<width>(cols);
	for (long row = team.row; row < rows; row += team.stride)
		add_layer_norm_row<width>(team, y, mean + row, rstd + row,
			x, x0, x1,
			w, b, row * cols, eps);
}

static MP_ROW_TEAMS __global__ void add_layer_norm_kernel(float *__restrict__ y, float *__restrict__ mean, float *__restrict__ rstd,
	float *__restrict__ x, const float *__restrict__ x0, const float *__restrict__ x1,
	const float *__restrict__ w, const float *__restrict__ b, long rows, long cols, float eps, bool wide)
{
	if (wide)
		add_layer_norm_rows<MP_STRIP(float)>(y, mean, rstd,
			x, x0, x1,
			w, b, rows, cols, eps);
	else
		add_layer_norm_rows<1>(y, mean, rstd,
			x, x0, x1,
			w, b, rows, cols, eps);
}

// y: float[rows, cols] = (x - mean) * rstd * w + b; mean: float[rows] of each row, rstd: float[rows] = 1 / sqrt(its variance + eps)
// x: float[rows, cols]; w, b: float[cols], b NULL: no bias
// x is made here: add(x0, x1)
void add_layer_norm(float *y, float *mean, float *rstd,
	float *x, const float *x0, const float *x1,
	const float *w, const float *b, long rows, long cols, float eps, cudaStream_t stream)
{
	const bool wide = mp_wide<float>(cols, y, w, b,
		x, x0, x1
	);
	const int width = wide ? MP_STRIP(float) : 1;
	MP_LAUNCH(add_layer_norm_kernel, mp_row_team_blocks(rows, cols, width), mp_row_team_threads(cols, width), stream,
		y, mean, rstd,
		x, x0, x1,
		w, b, rows, cols, eps, wide);
}
