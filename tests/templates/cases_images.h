// cases_images.h: pooling and permutation of channels-last images against loops in double. Included in a namespace that
// holds the templates for one type, `real`.

struct PoolCase {
	long n, h, w, c;
	int kh, kw, sh, sw, ph, pw, dh, dw;
	long p, q;
};

// n, h, w, c; kernel, stride, padding, dilation of height and width
static const PoolCase pool_cases[] = {
	{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0},
	{2, 4, 4, 3, 2, 2, 2, 2, 0, 0, 1, 1, 0, 0},
	{3, 7, 5, 10, 3, 3, 2, 2, 1, 1, 1, 1, 0, 0},
	{1, 9, 8, 4, 3, 2, 1, 3, 1, 0, 1, 1, 0, 0},
	{2, 6, 7, 64, 3, 3, 1, 1, 1, 1, 1, 1, 0, 0},
	{1, 13, 11, 33, 3, 3, 2, 1, 0, 1, 2, 3, 0, 0},
	{2, 3, 3, 5, 2, 2, 1, 1, 1, 1, 4, 4, 0, 0}, // max pool: every window lies in the padding
	{2, 9, 8, 6, 3, 3, 1, 2, 2, 2, 2, 3, 0, 0},
	{2, 7, 7, 300, 7, 7, 7, 7, 0, 0, 1, 1, 0, 0},
	{1, 5, 300, 8, 2, 5, 2, 4, 0, 2, 1, 1, 0, 0},
	{1, 10, 10, 1, 2, 2, 3, 3, 0, 0, 1, 1, 0, 0}, // pixels between the windows
	{1, 2, 3, 1300, 2, 2, 1, 1, 0, 0, 1, 1, 0, 0},
	{70, 2, 2, 12, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0},
};

static PoolCase with_results(PoolCase pool)
{
	pool.p = (pool.h + 2 * pool.ph - pool.dh * (pool.kh - 1) - 1) / pool.sh + 1;
	pool.q = (pool.w + 2 * pool.pw - pool.dw * (pool.kw - 1) - 1) / pool.sw + 1;
	return pool;
}

// Calls visit(result, pixel) for every tap inside the image, in order; both are numbers of pixels of the batch.
template <class Visit> static void each_tap(const PoolCase &pool, Visit visit)
{
	for (long result = 0; result < pool.n * pool.p * pool.q; result++)
		for (long i = 0; i < pool.kh; i++)
			for (long j = 0; j < pool.kw; j++) {
				long h = result / pool.q % pool.p * pool.sh - pool.ph + i * pool.dh;
				long w = result % pool.q * pool.sw - pool.pw + j * pool.dw;
				if (h >= 0 && h < pool.h && w >= 0 && w < pool.w)
					visit(result, (result / pool.q / pool.p * pool.h + h) * pool.w + w);
			}
}

// Few distinct values, so that most windows have ties; some are -infinity or NaN.
static void fill_ties(Buffer<real> &x)
{
	for (long i = 0; i < x.count; i++) {
		int value = (int)((random_number() + 1) * 4);
		x[i] = i % 37 == 36 ? (real)NAN : i % 5 == 4 ? -(real)INFINITY : (real)value;
	}
	x.upload();
}

static void max_pool_case(const PoolCase &pool, bool ties)
{
	const long c = pool.c, pixels = pool.h * pool.w, count = pool.n * pool.p * pool.q * c;
	const char *shape = shape_text(pool.n, pool.h, pool.w, c, pool.kh);
	Buffer<real> x(pool.n * pixels * c), y(count), dy(count), dx(x.count);
	Buffer<int> at(count);
	fill_random(x, 1);
	fill_random(dy, 1);
	if (ties)
		fill_ties(x);
	std::vector<double> best(count, -INFINITY), where(count, -1), slope(x.count);
	each_tap(pool, [&](long result, long pixel) {
		for (long k = 0; k < c; k++) {
			double value = x[pixel * c + k], &largest = best[result * c + k], &place = where[result * c + k];
			if (place < 0 || value > largest || value != value) {
				largest = value;
				place = (double)(pixel % pixels);
			}
		}
	});
	for (long i = 0; i < count; i++)
		if (where[i] >= 0)
			slope[(i / c / pool.p / pool.q * pixels + (long)where[i]) * c + i % c] += dy[i];
	tmpl_max_pool(y.at(), at.at(), x.at(), pool.n, pool.h, pool.w, c, pool.p, pool.q, pool.kh, pool.kw, pool.sh, pool.sw,
	              pool.ph, pool.pw, pool.dh, pool.dw, 0);
	expect(y, best, 0, 0, shape);
	expect(at, where, 0, 0, shape);
	tmpl_max_pool_grad(dx.at(), dy.at(), at.at(), pool.n, pool.h, pool.w, c, pool.p, pool.q, pool.kh, pool.kw, pool.sh,
	                   pool.sw, pool.ph, pool.pw, pool.dh, pool.dw, 0);
	expect(dx, slope, 8, 1, shape);
}

static void avg_pool_case(const PoolCase &pool, bool count_padding)
{
	const long c = pool.c, count = pool.n * pool.p * pool.q * c;
	const char *shape = shape_text(pool.n, pool.h, pool.w, c, count_padding);
	Buffer<real> x(pool.n * pool.h * pool.w * c), y(count), dy(count), dx(x.count);
	fill_random(x, 1);
	fill_random(dy, 1);
	std::vector<double> mean(count), divisor(count / c), slope(x.count);
	each_tap(pool, [&](long result, long) { divisor[result]++; });
	for (double &valid : divisor)
		valid = count_padding ? pool.kh * pool.kw : valid;
	each_tap(pool, [&](long result, long pixel) {
		for (long k = 0; k < c; k++) {
			mean[result * c + k] += x[pixel * c + k] / divisor[result];
			slope[pixel * c + k] += dy[result * c + k] / divisor[result];
		}
	});
	tmpl_avg_pool(y.at(), x.at(), pool.n, pool.h, pool.w, c, pool.p, pool.q, pool.kh, pool.kw, pool.sh, pool.sw, pool.ph,
	              pool.pw, count_padding, 0);
	expect(y, mean, 8, 1, shape);
	tmpl_avg_pool_grad(dx.at(), dy.at(), pool.n, pool.h, pool.w, c, pool.p, pool.q, pool.kh, pool.kw, pool.sh, pool.sw,
	                   pool.ph, pool.pw, count_padding, 0);
	expect(dx, slope, 8, 1, shape);
}

static void test_pools()
{
	for (PoolCase pool : pool_cases) {
		max_pool_case(with_results(pool), false);
		max_pool_case(with_results(pool), true);
		pool.dh = pool.dw = 1;
		avg_pool_case(with_results(pool), false);
		avg_pool_case(with_results(pool), true);
	}
}

static const long adaptive_shapes[][6] = { // n, h, w, c, p, q
	{1, 1, 1, 1, 1, 1}, {2, 7, 7, 512, 1, 1}, {3, 5, 7, 10, 2, 3}, {1, 3, 2, 3, 7, 5}, {2, 8, 8, 64, 4, 4},
	{1, 50, 40, 3, 1, 1},
	{2, 33, 20, 37, 3, 2}, {1, 10, 9, 300, 10, 9}, {1, 300, 5, 1, 2, 1}, {4, 1, 100, 40, 1, 3}, {1, 64, 64, 100, 1, 1},
	{2, 7, 7, 65, 2, 2},
};

static void test_adaptive_pools()
{
	for (auto &shape : adaptive_shapes) {
		long n = shape[0], h = shape[1], w = shape[2], c = shape[3], p = shape[4], q = shape[5];
		Buffer<real> x(n * h * w * c), y(n * p * q * c), dy(y.count), dx(x.count);
		fill_random(x, 1);
		fill_random(dy, 1);
		std::vector<double> mean(y.count), slope(x.count);
		for (long result = 0; result < n * p * q; result++) {
			long i = result / q % p, j = result % q;
			long top = i * h / p, bottom = (long)ceil((double)(i + 1) * (double)h / (double)p);
			long left = j * w / q, right = (long)ceil((double)(j + 1) * (double)w / (double)q);
			double pixels = (double)((bottom - top) * (right - left));
			for (long row = top; row < bottom; row++)
				for (long column = left; column < right; column++)
					for (long k = 0; k < c; k++) {
						long pixel = ((result / q / p * h + row) * w + column) * c + k;
						mean[result * c + k] += x[pixel] / pixels;
						slope[pixel] += dy[result * c + k] / pixels;
					}
		}
		tmpl_adaptive_avg_pool(y.at(), x.at(), n, h, w, c, p, q, 0);
		expect(y, mean, 8, 1, shape_text(n, h, w, c, p));
		tmpl_adaptive_avg_pool_grad(dx.at(), dy.at(), n, h, w, c, p, q, 0);
		expect(dx, slope, 8, 1, shape_text(n, h, w, c, p));
	}
}

static const long matrices[][3] = { // batch, rows, columns
	{1, 1, 1}, {2, 1, 100}, {3, 100, 1}, {2, 3, 1000}, {2, 1000, 3}, {5, 7, 7}, {4, 10, 49}, {3, 49, 512}, {1, 33, 65},
	{2, 128, 64},
	{1, 31, 3000}, {7, 8, 8}, {1, 300, 257}, {0, 5, 5},
};

static void test_permute()
{
	for (auto &shape : matrices) {
		long batch = shape[0], rows = shape[1], columns = shape[2];
		Buffer<real> x(batch * rows * columns), y(x.count);
		fill_random(x, 1);
		std::vector<double> want(x.count);
		for (long i = 0; i < x.count; i++)
			want[(i / rows / columns * columns + i % columns) * rows + i / columns % rows] = x[i];
		tmpl_permute(y.at(), x.at(), batch, rows, columns, 0);
		expect(y, want, 0, 0, shape_text(batch, rows, columns));
	}
}
