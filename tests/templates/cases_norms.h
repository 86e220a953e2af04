// cases_norms.h: norms, rotary position embeddings and gated units against loops in double. Included in a namespace that
// holds the templates for one type, `real`, and the type that it is computed in, `full`.

static const long norm_shapes[][3] = { // rows, cols, chunks
	{1, 1, 1}, {5, 2, 1}, {3, 7, 2}, {1, 32, 1}, {33, 64, 4}, {7, 100, 3}, {13, 768, 5}, {64, 129, 7}, {3, 1001, 8}, {2, 4096, 1},
	{5, 8200, 2}, {3, 5003, 3}, {19, 1600, 4}, {100, 8, 100}, {2, 16384, 2}, {40, 2048, 3}, {9, 2056, 2},
	{0, 8, 2},
};

struct Norms {
	long rows, cols, chunks;
	Buffer<real> x, dy, y, dx;
	Buffer<full> w, b, mean, rstd, weight_sums, bias_sums, dx_sums;
	std::vector<double> want_y, want_dx, want_mean, want_rstd, want_weight, want_bias;

	Norms(long rows, long cols, long chunks)
		: rows(rows), cols(cols), chunks(chunks), x(rows * cols), dy(rows * cols), y(rows * cols), dx(rows * cols), w(cols), b(cols),
		  mean(rows), rstd(rows), weight_sums(chunks * cols), bias_sums(chunks * cols), dx_sums(chunks * cols), want_y(rows * cols),
		  want_dx(rows * cols), want_mean(rows), want_rstd(rows), want_weight(chunks * cols), want_bias(chunks * cols)
	{
		fill_random(x, 2);
		fill_random(dy, 1);
		fill_random(w, 1);
		fill_random(b, 1);
		for (long i = 0; i < x.count; i++) // rows far from zero, whose squares would cancel, and rows with an element far from the others
			x[i] = (real)((double)x[i] * (i % cols == i / cols % 3 && cols > 10 ? 50 : 1) + (double)(i / cols % 3) * 10);
		x.upload();
	}

	// The results of a norm that takes away the mean, or not.
	void expect_of(bool centered, bool has_bias, double eps)
	{
		for (long row = 0; row < rows; row++) {
			long double sum = 0, squares = 0, slopes = 0, products = 0;
			for (long i = row * cols; i < (row + 1) * cols; i++)
				sum += (double)x[i];
			const double center = centered ? (double)sum / (double)cols : 0;
			for (long i = row * cols; i < (row + 1) * cols; i++)
				squares += ((double)x[i] - center) * ((double)x[i] - center);
			const double scale = 1 / sqrt((double)squares / (double)cols + eps);
			for (long c = 0; c < cols; c++) {
				const long i = row * cols + c;
				const double n = ((double)x[i] - center) * scale;
				want_y[i] = n * (double)w[c] + (has_bias ? (double)b[c] : 0);
				slopes += (double)dy[i] * (double)w[c];
				products += (double)dy[i] * (double)w[c] * n;
			}
			want_mean[row] = center;
			want_rstd[row] = scale;
			for (long c = 0; c < cols; c++) {
				const long i = row * cols + c;
				const double n = ((double)x[i] - center) * scale, d = (double)dy[i] * (double)w[c];
				want_dx[i] = scale * (d - (centered ? (double)slopes / (double)cols : 0) - n * (double)products / (double)cols);
			}
		}
		for (long chunk = 0; chunk < chunks; chunk++)
			for (long c = 0; c < cols; c++) {
				long double weight = 0, bias = 0;
				for (long row = rows * chunk / chunks; row < rows * (chunk + 1) / chunks; row++) {
					const long i = row * cols + c;
					weight += (double)dy[i] * ((double)x[i] - want_mean[row]) * want_rstd[row];
					bias += (double)dy[i];
				}
				want_weight[chunk * cols + c] = (double)weight;
				want_bias[chunk * cols + c] = (double)bias;
			}
	}

	// One or two columns have a variance of about nothing, which makes the difference of cancelling terms large.
	void compare(bool forward, bool centered)
	{
		const char *shape = shape_text(rows, cols, chunks);
		const double size = cols < 3 ? 1e3 : 10;
		if (forward) {
			expect(y, want_y, 4, size, shape);
			expect(rstd, want_rstd, cols < 3 ? 100 : 30, 0, shape);
			if (centered)
				expect(mean, want_mean, 4, 4, shape);
			return;
		}
		expect(dx, want_dx, 4, size, shape);
		expect(weight_sums, want_weight, 30, size, shape);
		if (centered)
			expect(bias_sums, want_bias, 8, 8, shape);
	}

	// Of dx as it is stored.
	void compare_dx_sums()
	{
		std::vector<double> want(chunks * cols);
		dx.download();
		for (long chunk = 0; chunk < chunks; chunk++)
			for (long row = rows * chunk / chunks; row < rows * (chunk + 1) / chunks; row++)
				for (long c = 0; c < cols; c++)
					want[chunk * cols + c] += (double)dx[row * cols + c];
		expect(dx_sums, want, 8, cols < 3 ? 1e3 : 10, shape_text(rows, cols, chunks));
	}
};

static void test_norms()
{
	for (auto &shape : norm_shapes)
		for (int biased = 0; biased < 2; biased++) {
			Norms norm(shape[0], shape[1], shape[2]);
			norm.expect_of(true, biased, 1e-2);
			tmpl_layer_norm(norm.y.at(), norm.mean.at(), norm.rstd.at(), norm.x.at(), norm.w.at(), biased ? norm.b.at() : NULL, norm.rows,
			                norm.cols, (full)1e-2, 0);
			norm.compare(true, true);
			for (bool sums_dx : {false, true}) {
				tmpl_layer_norm_grad(norm.dx.at(), norm.weight_sums.at(), norm.bias_sums.at(), sums_dx ? norm.dx_sums.at() : NULL, norm.dy.at(),
				                     norm.x.at(), norm.mean.at(), norm.rstd.at(), norm.w.at(), norm.rows, norm.cols, norm.chunks, 0);
				norm.compare(false, true);
			}
			norm.compare_dx_sums();
		}
	for (auto &shape : norm_shapes) {
		Norms norm(shape[0], shape[1], shape[2]);
		norm.expect_of(false, false, 1e-2);
		tmpl_rms_norm(norm.y.at(), norm.rstd.at(), norm.x.at(), norm.w.at(), norm.rows, norm.cols, (full)1e-2, 0);
		norm.compare(true, false);
		for (bool sums_dx : {false, true}) {
			tmpl_rms_norm_grad(norm.dx.at(), norm.weight_sums.at(), sums_dx ? norm.dx_sums.at() : NULL, norm.dy.at(), norm.x.at(),
			                   norm.rstd.at(), norm.w.at(), norm.rows, norm.cols, norm.chunks, 0);
			norm.compare(false, false);
		}
		norm.compare_dx_sums();
	}
}

static const long rope_shapes[][5] = { // positions, groups, heads, size, first
	{1, 1, 3, 2, 0}, {5, 1, 3, 8, 0}, {3, 2, 4, 6, 7}, {7, 5, 3, 64, 100}, {4, 3, 10, 128, 8190}, {2, 7, 6, 10, 131071}, {3, 1, 3, 512, 3},
	{33, 2, 14, 96, 1}, {0, 1, 3, 8, 0},
};

// As Hugging Face's configuration of Llama 3.1 words it, by wave lengths.
static double rope_frequency(long pair, long size, double theta, const double *scaling)
{
	const double plain = pow(theta, -2.0 * (double)pair / (double)size), wave = 2 * 3.14159265358979323846 / plain;
	const double factor = scaling[0], low = scaling[1], high = scaling[2], original = scaling[3];
	if (factor == 1 || wave < original / high)
		return plain;
	if (wave > original / low)
		return plain / factor;
	const double smooth = (original / wave - low) / (high - low);
	return (1 - smooth) * plain / factor + smooth * plain;
}

static void rope_case(const long *shape, double theta, const double *scaling, bool back, bool in_place)
{
	const long positions = shape[0], groups = shape[1], heads = shape[2], size = shape[3], half = size / 2;
	Buffer<real> x(positions * groups * heads * size), y(x.count);
	fill_random(x, 2);
	std::vector<double> want(x.count);
	for (long i = 0; i < x.count; i++) {
		const long e = i % size, head = i / size % heads, position = shape[4] + i / size / heads / groups, pair = e % half;
		const double angle = (double)position * rope_frequency(pair, size, theta, scaling) * (back ? -1 : 1);
		const double a = (double)x[i - e + pair], b = (double)x[i - e + pair + half];
		want[i] = head == heads - 1 ? (double)x[i] : e < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle);
	}
	Buffer<real> &to = in_place ? x : y;
	tmpl_rope(to.at(), x.at(), positions, groups, heads, size, shape[4], back, theta, scaling[0], scaling[1], scaling[2], scaling[3], 0);
	// A frequency is as exact as a double: far positions multiply its error.
	expect(to, want, 4 + (sizeof(real) == 8 ? (double)shape[4] : 0), 2, shape_text(positions, groups, heads, size, shape[4]));
}

static void test_rope()
{
	static const double scalings[][4] = {{1, 0, 0, 0}, {8, 1, 4, 8192}, {4, 1, 2, 64}};
	for (auto &shape : rope_shapes)
		for (auto &scaling : scalings)
			for (int variant = 0; variant < 4; variant++)
				rope_case(shape, scaling[0] == 8 ? 500000 : 10000, scaling, variant & 1, variant & 2);
}

static const long unit_shapes[][2] = { // rows, cols
	{1, 1}, {3, 7}, {5, 64}, {17, 1000}, {2, 4099}, {300, 8}, {1, 11008}, {0, 8},
};

static void test_units()
{
	for (auto &shape : unit_shapes)
		for (double size : {1.0, 30.0}) {
			const long rows = shape[0], cols = shape[1];
			Buffer<real> x(rows * 2 * cols), y(rows * cols), dy(rows * cols), dx(rows * 2 * cols);
			fill_random(x, size);
			fill_random(dy, 1);
			std::vector<double> want(rows * cols), grad(rows * 2 * cols);
			for (long i = 0; i < rows * cols; i++) {
				const long at = i + i / cols * cols;
				const double g = (double)x[at], v = (double)x[at + cols], s = 1 / (1 + exp(-g));
				want[i] = g * s * v;
				grad[at] = (double)dy[i] * v * (s + g * s * (1 - s));
				grad[at + cols] = (double)dy[i] * g * s;
			}
			tmpl_swiglu(y.at(), x.at(), rows, cols, 0);
			expect(y, want, 8, 0.1, shape_text(rows, cols));
			tmpl_swiglu_grad(dx.at(), dy.at(), x.at(), rows, cols, 0);
			expect(dx, grad, 8, size, shape_text(rows, cols));
		}
}

#ifdef __CUDACC__
// Kernels are right for any block of a multiple of 32 threads, and any grid, not only for what launchers choose.
static void test_norm_blocks()
{
	for (long cols : {264, 2064, 259})
		for (int block : {32, 64, 96, 160, 256, 384})
			for (int grid : {1, 3, 200}) {
				const bool wide = cols % 8 == 0;
				Norms norm(37, cols, 5);
				norm.expect_of(true, true, 1e-2);
				MP_LAUNCH(tmpl_layer_norm_kernel, grid, block, 0, norm.y.at(), norm.mean.at(), norm.rstd.at(), norm.x.at(), norm.w.at(), norm.b.at(), 37,
				                                        cols, (full)1e-2, wide);
				MP_LAUNCH(tmpl_layer_norm_grad_kernel<true>, grid, block, 0, norm.dx.at(), norm.weight_sums.at(), norm.bias_sums.at(),
				          norm.dx_sums.at(), norm.dy.at(), norm.x.at(), norm.mean.at(), norm.rstd.at(), norm.w.at(), 37, cols, 5, wide);
				norm.compare(true, true);
				norm.compare(false, true);
				norm.compare_dx_sums();
				norm.expect_of(false, false, 1e-2);
				MP_LAUNCH(tmpl_rms_norm_kernel, grid, block, 0, norm.y.at(), norm.rstd.at(), norm.x.at(), norm.w.at(), 37, cols, (full)1e-2, wide);
				MP_LAUNCH(tmpl_rms_norm_grad_kernel<true>, grid, block, 0, norm.dx.at(), norm.weight_sums.at(), norm.dx_sums.at(), norm.dy.at(),
				          norm.x.at(), norm.rstd.at(), norm.w.at(), 37, cols, 5, wide);
				norm.compare(true, false);
				norm.compare(false, false);
				norm.compare_dx_sums();
			}
}
#endif

static void test_type(const char *type)
{
	static char names[4][40];
	int count = 0;
	auto start = [&](const char *what) {
		snprintf(names[count], sizeof names[count], "%s %s", type, what);
		start_group(names[count++]);
	};
	start("norms");
	test_norms();
	start("rope");
	test_rope();
	start("swiglu");
	test_units();
#ifdef __CUDACC__
	start("block sizes of norms");
	test_norm_blocks();
#endif
	start_group(NULL);
}
