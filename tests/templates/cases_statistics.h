// cases_statistics.h: batch normalisation's statistics and sums against loops in double. Included in a namespace that
// holds the templates for one type, `real`.

static const long statistics_shapes[][4] = { // groups, chunks, rows, channels
	{1, 1, 1, 1}, {1, 1, 2, 3}, {3, 1, 10, 10}, {2, 4, 4, 3}, {1, 7, 100, 1}, {4, 5, 333, 10}, {2, 3, 50, 64}, {1, 16, 1000, 33},
	{3, 2, 129, 300}, {1, 100, 5000, 3}, {1, 130, 20011, 5}, {1, 300, 12544, 70}, {2, 1, 6, 513}, {1, 1, 20000, 2},
	{1, 2, 40, 128}, {5, 3, 3, 31}, {1, 500, 4096, 8},
};

static long chunk_start(long rows, long chunk, long chunks) { return rows * chunk / chunks; }

static std::vector<double> values(Buffer<real> &buffer)
{
	buffer.download();
	std::vector<double> copy(buffer.count);
	for (long i = 0; i < buffer.count; i++)
		copy[i] = buffer[i];
	return copy;
}

// The mean of rows first to end - 1 of a channel and the sum of their squared deviations from it.
static void exact_moments(Buffer<real> &x, long first, long end, long channels, long c, double *mean, double *deviations)
{
	long double sum = 0, squares = 0;
	for (long row = first; row < end; row++)
		sum += x[row * channels + c];
	*mean = (double)(sum / (end - first));
	for (long row = first; row < end; row++)
		squares += (x[row * channels + c] - (long double)*mean) * (x[row * channels + c] - (long double)*mean);
	*deviations = (double)squares;
}

// x = mean + scale * [-1, 1); `outlier` is added to the first row, which a careless choice of a shift would use alone.
static void statistics_case(const long *shape, double mean, double scale, double outlier, double limit)
{
	const long groups = shape[0], chunks = shape[1], rows = shape[2], channels = shape[3];
	const char *text = shape_text(groups, chunks, rows, channels, (long)mean);
	const double eps = 1e-5;
	Buffer<real> x(groups * rows * channels), of_mean(groups * chunks * channels), deviations(of_mean.count);
	Buffer<real> result(groups * channels), variance(result.count), rstd(result.count), running(channels);
	for (long i = 0; i < x.count; i++)
		x[i] = (real)(mean + scale * random_number() + (i % (rows * channels) < channels ? outlier : 0));
	x.upload();
	fill_random(running, 1);
	std::vector<double> want_mean(of_mean.count), want_deviations(of_mean.count);
	std::vector<double> want_result(result.count), want_variance(result.count), want_rstd(result.count);
	for (long g = 0; g < groups; g++)
		for (long c = 0; c < channels; c++) {
			for (long k = 0; k < chunks; k++) {
				long first = g * rows + chunk_start(rows, k, chunks), end = g * rows + chunk_start(rows, k + 1, chunks);
				long at = (g * chunks + k) * channels + c;
				exact_moments(x, first, end, channels, c, &want_mean[at], &want_deviations[at]);
			}
			long at = g * channels + c;
			exact_moments(x, g * rows, (g + 1) * rows, channels, c, &want_result[at], &want_variance[at]);
			want_variance[at] /= (double)rows;
			want_rstd[at] = 1 / sqrt(want_variance[at] + (double)(real)eps);
		}
	tmpl_channel_partials(of_mean.at(), deviations.at(), x.at(), groups, chunks, rows, channels, 0);
	expect(of_mean, want_mean, 8, scale + outlier, text);
	expect(deviations, want_deviations, limit, scale * scale, text);
	tmpl_channel_statistics(result.at(), variance.at(), rstd.at(), of_mean.at(), deviations.at(), running.at(), running.at(),
	                        groups, chunks, rows, channels, (real)eps, false, 0);
	expect(result, want_result, 8, scale + outlier, text);
	expect(variance, want_variance, limit, scale * scale, text);
	expect(rstd, want_rstd, limit, 1, text);
}

// While evaluating: what normalises are the running statistics, whatever the batch holds.
static void evaluating_case(const long *shape)
{
	const long groups = shape[0], chunks = shape[1], rows = shape[2], channels = shape[3];
	Buffer<real> of_mean(groups * chunks * channels), deviations(of_mean.count), mean(groups * channels);
	Buffer<real> variance(mean.count), rstd(mean.count), running_mean(channels), running_var(channels);
	fill_random(running_mean, 3);
	fill_random(running_var, 1);
	for (long c = 0; c < channels; c++)
		running_var[c] *= running_var[c];
	running_var.upload();
	std::vector<double> want_mean(mean.count), want_variance(mean.count), want_rstd(mean.count);
	for (long i = 0; i < mean.count; i++) {
		want_mean[i] = running_mean[i % channels];
		want_variance[i] = running_var[i % channels];
		want_rstd[i] = 1 / sqrt(want_variance[i] + (double)(real)1e-3);
	}
	tmpl_channel_statistics(mean.at(), variance.at(), rstd.at(), of_mean.at(), deviations.at(), running_mean.at(),
	                        running_var.at(), groups, chunks, rows, channels, (real)1e-3, true, 0);
	expect(mean, want_mean, 0, 0, shape_text(groups, chunks, rows, channels));
	expect(variance, want_variance, 0, 0, shape_text(groups, chunks, rows, channels));
	expect(rstd, want_rstd, 4, 0, shape_text(groups, chunks, rows, channels));
}

static void test_statistics()
{
	for (auto &shape : statistics_shapes) {
		statistics_case(shape, 0, 1, 0, 20);
		// Deviation 1, mean 1000: 1e-3 of the variance is what a mean in float can promise, and this is a tenth of it.
		statistics_case(shape, 1000, sqrt(3), 0, 800);
		statistics_case(shape, -3, 0.01, 0, 800);
		statistics_case(shape, 0, 1, 1e4, 800);
		evaluating_case(shape);
	}
}

static void test_merge()
{
	for (auto &shape : statistics_shapes) {
		const long groups = shape[0], replicas = shape[1], channels = shape[3];
		Buffer<real> of_mean(groups * replicas * channels), of_variance(of_mean.count);
		Buffer<real> mean(groups * channels), variance(mean.count), rstd(mean.count);
		fill_random(of_mean, 1);
		fill_random(of_variance, 1);
		for (long i = 0; i < of_mean.count; i++) {
			of_mean[i] += 100;
			of_variance[i] = of_variance[i] * of_variance[i];
		}
		of_mean.upload();
		of_variance.upload();
		std::vector<double> want_mean(mean.count), want_variance(mean.count), want_rstd(mean.count);
		for (long i = 0; i < mean.count; i++) {
			const long from = i / channels * replicas * channels + i % channels;
			long double sum = 0, squares = 0;
			for (long r = 0; r < replicas; r++)
				sum += of_mean[from + r * channels];
			for (long r = 0; r < replicas; r++) {
				long double d = of_mean[from + r * channels] - sum / replicas;
				squares += of_variance[from + r * channels] + d * d;
			}
			want_mean[i] = (double)(sum / replicas);
			want_variance[i] = (double)(squares / replicas);
			want_rstd[i] = 1 / sqrt(want_variance[i] + (double)(real)1e-5);
		}
		tmpl_merge_statistics(mean.at(), variance.at(), rstd.at(), of_mean.at(), of_variance.at(), groups, replicas,
		                      channels, (real)1e-5, 0);
		expect(mean, want_mean, 4, 0, shape_text(groups, replicas, channels));
		expect(variance, want_variance, 400, 1, shape_text(groups, replicas, channels));
		expect(rstd, want_rstd, 400, 1, shape_text(groups, replicas, channels));
	}
}

static void test_normalize_sums()
{
	for (auto &shape : statistics_shapes) {
		const long groups = shape[0], chunks = shape[1], rows = shape[2], channels = shape[3];
		Buffer<real> dy(groups * rows * channels), x(dy.count), mean(groups * channels), rstd(mean.count);
		Buffer<real> sums(groups * chunks * channels), products(sums.count);
		fill_random(dy, 1);
		fill_random(x, 2);
		fill_random(mean, 1);
		fill_random(rstd, 3);
		std::vector<long double> exact_sums(sums.count), exact_products(sums.count);
		for (long i = 0; i < sums.count; i++) {
			const long chunk = i / channels % chunks, group = i / channels / chunks, c = i % channels;
			for (long row = chunk_start(rows, chunk, chunks); row < chunk_start(rows, chunk + 1, chunks); row++) {
				const long at = (group * rows + row) * channels + c, of = group * channels + c;
				exact_sums[i] += dy[at];
				exact_products[i] += (double)dy[at] * ((double)x[at] - mean[of]) * rstd[of];
			}
		}
		std::vector<double> want_sums(exact_sums.begin(), exact_sums.end()), want_products(exact_products.begin(), exact_products.end());
		tmpl_normalize_sums(sums.at(), products.at(), dy.at(), x.at(), mean.at(), rstd.at(), groups, chunks, rows, channels, 1, 0);
		const double size = 2 + sqrt((double)rows / (double)chunks);
		expect(sums, want_sums, 20, size, shape_text(groups, chunks, rows, channels));
		expect(products, want_products, 80, size, shape_text(groups, chunks, rows, channels));
	}
}

// Behind a ReLU: the same sums of a dy that was masked by what the forward pass computes.
static void test_normalize_relu_sums()
{
	for (auto &shape : statistics_shapes) {
		const long groups = shape[0], chunks = shape[1], rows = shape[2], channels = shape[3];
		Buffer<real> dy(groups * rows * channels), masked(dy.count), x(dy.count), mean(groups * channels), rstd(mean.count);
		Buffer<real> weight(channels), bias(channels), sums(groups * chunks * channels), products(sums.count);
		Buffer<real> *const made[] = {&dy, &x, &mean, &rstd, &weight, &bias};
		for (Buffer<real> *buffer : made)
			fill_random(*buffer, buffer == &rstd ? 3 : 1);
		for (long i = 0; i < dy.count; i++) {
			const long c = i % channels, of = i / channels / rows * channels + c;
			masked[i] = (x[i] - mean[of]) * rstd[of] * weight[c] + bias[c] > 0 ? dy[i] : 0;
		}
		masked.upload();
		tmpl_normalize_sums(sums.at(), products.at(), masked.at(), x.at(), mean.at(), rstd.at(), groups, chunks, rows, channels, 1, 0);
		sums.download();
		products.download();
		std::vector<double> want_sums(sums.count), want_products(sums.count);
		for (long i = 0; i < sums.count; i++) {
			want_sums[i] = sums[i];
			want_products[i] = products[i];
		}
		tmpl_normalize_relu_sums(sums.at(), products.at(), dy.at(), x.at(), mean.at(), rstd.at(), weight.at(), bias.at(), groups, chunks,
		                         rows, channels, 1, 0);
		const double size = 2 + sqrt((double)rows / (double)chunks);
		expect(sums, want_sums, 20, size, shape_text(groups, chunks, rows, channels));
		expect(products, want_products, 80, size, shape_text(groups, chunks, rows, channels));
	}
}

static const long pooled_shapes[][5] = { // groups, samples, chunks, pixels, channels
	{1, 1, 1, 1, 1}, {1, 2, 4, 7, 3}, {2, 3, 6, 50, 33}, {1, 4, 4, 301, 32}, {3, 1, 5, 64, 1}, {2, 2, 2, 9, 260},
};

// A dy that is the same for so many rows in turn: the same sums as of one that is repeated in memory.
static void test_repeated_sums()
{
	for (auto &shape : pooled_shapes) {
		const long groups = shape[0], samples = shape[1], chunks = shape[2], repeat = shape[3], channels = shape[4], rows = samples * repeat;
		Buffer<real> dy(groups * samples * channels), whole(groups * rows * channels), x(whole.count), mean(groups * channels), rstd(mean.count);
		Buffer<real> weight(channels), bias(channels), sums(groups * chunks * channels), products(sums.count);
		for (Buffer<real> *buffer : {&dy, &x, &mean, &rstd, &weight, &bias})
			fill_random(*buffer, buffer == &rstd ? 3 : 1);
		for (long i = 0; i < whole.count; i++)
			whole[i] = dy[i / channels / repeat * channels + i % channels];
		whole.upload();
		for (bool relu : {false, true}) {
			std::vector<double> want_sums, want_products;
			for (bool repeated : {false, true}) {
				const real *d = repeated ? dy.at() : whole.at();
				const long each = repeated ? repeat : 1;
				if (relu)
					tmpl_normalize_relu_sums(sums.at(), products.at(), d, x.at(), mean.at(), rstd.at(), weight.at(), bias.at(), groups,
					                         chunks, rows, channels, each, 0);
				else
					tmpl_normalize_sums(sums.at(), products.at(), d, x.at(), mean.at(), rstd.at(), groups, chunks, rows, channels, each, 0);
				if (!repeated) {
					want_sums = values(sums);
					want_products = values(products);
				}
			}
			const double size = 2 + sqrt((double)rows / (double)chunks);
			expect(sums, want_sums, 20, size, shape_text(groups, chunks, rows, channels));
			expect(products, want_products, 80, size, shape_text(groups, chunks, rows, channels));
		}
	}
}

static void test_normalize_relu_partials()
{
	for (auto &shape : pooled_shapes) {
		const long groups = shape[0], samples = shape[1], chunks = shape[2], pixels = shape[3], channels = shape[4];
		Buffer<real> x(groups * samples * pixels * channels), mean(groups * channels), rstd(mean.count), weight(channels), bias(channels);
		Buffer<real> y(groups * samples * chunks * channels);
		for (Buffer<real> *buffer : {&x, &mean, &rstd, &weight, &bias})
			fill_random(*buffer, buffer == &rstd ? 3 : 1);
		std::vector<long double> exact(y.count);
		for (long i = 0; i < y.count; i++) {
			const long c = i % channels, chunk = i / channels % chunks, sample = i / channels / chunks, of = sample / samples * channels + c;
			for (long pixel = chunk_start(pixels, chunk, chunks); pixel < chunk_start(pixels, chunk + 1, chunks); pixel++) {
				const double v = ((double)x[(sample * pixels + pixel) * channels + c] - mean[of]) * rstd[of] * weight[c] + bias[c];
				exact[i] += v > 0 ? v : 0;
			}
		}
		tmpl_normalize_relu_partials(y.at(), x.at(), mean.at(), rstd.at(), weight.at(), bias.at(), groups, samples, chunks, pixels,
		                             channels, 0);
		expect(y, std::vector<double>(exact.begin(), exact.end()), 40, 4 + sqrt((double)pixels / (double)chunks),
		       shape_text(groups * samples, chunks, pixels, channels));
	}
}

static void test_running()
{
	for (auto &shape : statistics_shapes)
		for (double momentum : {0.1, 1.0, 0.0}) {
			const long groups = shape[0], rows = shape[2], channels = shape[3];
			Buffer<real> mean(groups * channels), variance(mean.count), running_mean(channels), running_var(channels);
			Buffer<int> batches(1);
			for (Buffer<real> *buffer : {&mean, &variance, &running_mean, &running_var})
				fill_random(*buffer, 1);
			batches[0] = 5;
			batches.upload();
			std::vector<double> want_mean(channels), want_var(channels);
			const double share = (double)(real)momentum, unbiased = rows > 1 ? (double)rows / (double)(rows - 1) : 1;
			for (long c = 0; c < channels; c++) {
				want_mean[c] = running_mean[c];
				want_var[c] = running_var[c];
				for (long at = c; at < mean.count; at += channels) {
					want_mean[c] = (1 - share) * want_mean[c] + share * mean[at];
					want_var[c] = (1 - share) * want_var[c] + share * variance[at] * unbiased;
				}
			}
			tmpl_running_statistics(running_mean.at(), running_var.at(), batches.at(), mean.at(), variance.at(), groups,
			                        rows, channels, (real)momentum, 0);
			expect(running_mean, want_mean, 4, 1, shape_text(groups, rows, channels));
			expect(running_var, want_var, 4, 1, shape_text(groups, rows, channels));
			expect(batches, {(double)(5 + groups)}, 0, 0, shape_text(groups, rows, channels));
		}
}
