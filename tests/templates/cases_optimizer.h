// cases_optimizer.h: the optimizers' updates, and the norm of gradients that lie anywhere in an arena.

// scale: what the gradient is multiplied by; NULL without clipping.
static void check_sgd(long n, double momentum, bool clipped)
{
	const double decay = 0.01, rate = 0.1, factor = clipped ? 0.25 : 1;
	Buffer<real> w(n), v(n), g(n), step(1), scale(1);
	fill_random(w, 1);
	for (long i = 0; i < n; i++)
		v[i] = 0;
	v.upload();
	step[0] = (real)rate;
	step.upload();
	scale[0] = (real)factor;
	scale.upload();
	std::vector<double> weight(n), velocity(n);
	for (long i = 0; i < n; i++)
		weight[i] = w[i];
	for (int k = 0; k < 3; k++) {
		fill_random(g, 1);
		for (long i = 0; i < n; i++) {
			double change = factor * g[i] + (double)(real)decay * weight[i];
			velocity[i] = momentum < 0 || k == 0 ? change : (double)(real)momentum * velocity[i] + change;
			weight[i] -= (double)(real)rate * velocity[i];
		}
		tmpl_sgd(w.at(), momentum < 0 ? NULL : v.at(), g.at(), step.at(), clipped ? scale.at() : NULL, n,
		         (real)fmax(momentum, 0), (real)decay, 0);
	}
	expect(w, weight, 8, 1, shape_text(n));
	if (momentum >= 0)
		expect(v, velocity, 8, 1, shape_text(n));
}

static void test_sgd()
{
	for (long n : lengths)
		for (double momentum : {-1.0, 0.0, 0.9}) { // -1: no velocity
			check_sgd(n, momentum, false);
			check_sgd(n, momentum, true);
		}
}

// Three steps, the first of which is number `first`: late ones have no bias to correct.
static void check_adamw(long n, int first, bool clipped)
{
	const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.1, rate = 0.01, factor = clipped ? 0.5 : 1;
	Buffer<real> w(n), average(n), square(n), g(n), lr(1), scale(1);
	Buffer<int> step(1);
	fill_random(w, 1);
	for (long i = 0; i < n; i++)
		average[i] = square[i] = 0;
	average.upload();
	square.upload();
	lr[0] = (real)rate;
	lr.upload();
	scale[0] = (real)factor;
	scale.upload();
	std::vector<double> weight(n), m(n), v(n);
	for (long i = 0; i < n; i++)
		weight[i] = w[i];
	for (int k = first; k < first + 3; k++) {
		fill_random(g, 1);
		for (long i = 0; i < n; i++) {
			double x = factor * g[i];
			m[i] = beta1 * m[i] + (1 - beta1) * x;
			v[i] = beta2 * v[i] + (1 - beta2) * x * x;
			weight[i] -= rate * decay * weight[i];
			weight[i] -= rate / (1 - pow(beta1, k)) * m[i] / (sqrt(v[i]) / sqrt(1 - pow(beta2, k)) + epsilon);
		}
		step[0] = k;
		step.upload();
		tmpl_adamw(w.at(), average.at(), square.at(), g.at(), lr.at(), step.at(), clipped ? scale.at() : NULL, n, beta1, beta2,
		           (real)epsilon, (real)decay, 0);
	}
	expect(w, weight, 16, 1, shape_text(n));
	expect(average, m, 16, 1, shape_text(n));
	expect(square, v, 16, 1, shape_text(n));
}

static void test_adamw()
{
	for (long n : lengths)
		for (int first : {1, 1000, 1000000}) {
			check_adamw(n, first, false);
			check_adamw(n, first, true);
		}
}

// Tensors of some lengths, each from a multiple of 256 bytes on; every second of seven elements has one.
static void check_norms(bool counts, double limit)
{
	enum { CHUNK = 100, ROWS = 3, ELEMENTS = 7 };
	const long length[ROWS] = {100, 1037, 1};
	Buffer<int> table(ROWS * 6);
	Buffer<real> arena(4096), partial(13), squares(ELEMENTS), norm(1), scale(1);
	fill_random(arena, 1);
	std::vector<double> expected(ELEMENTS);
	double total = 0;
	int chunks = 0;
	size_t offset = 0;
	for (int k = 0; k < ROWS; k++) {
		int n = (int)((length[k] + CHUNK - 1) / CHUNK);
		const int row[6] = {(int)(offset / 256), 2 * k + 1, chunks, n, (int)(length[k] - (n - 1) * CHUNK), k == 1};
		for (int i = 0; i < 6; i++)
			table[k * 6 + i] = row[i];
		for (long i = 0; i < length[k] && (counts || k == 1); i++) {
			double x = arena[(long)(offset / sizeof(real)) + i];
			expected[2 * k + 1] += x * x;
		}
		total += expected[2 * k + 1];
		chunks += n;
		offset += (length[k] * sizeof(real) + 255) / 256 * 256 + 256;
	}
	table.upload();
	tmpl_squared_norms(squares.at(), partial.at(), table.at(), (const char *)arena.at(), ROWS, chunks, ELEMENTS, CHUNK, counts, 0);
	expect(squares, expected, 64, 1, shape_text(ELEMENTS));
	tmpl_gradient_norm(norm.at(), scale.at(), squares.at(), ELEMENTS, (real)limit, 0);
	expect(norm, std::vector<double>{sqrt(total)}, 64, 1, "norm");
	expect(scale, std::vector<double>{limit > 0 ? fmin(1, limit / (sqrt(total) + 1e-6)) : 1}, 64, 1, "scale");
}

static void test_norms()
{
	for (double limit : {0.0, 1.0, 1e6}) {
		check_norms(true, limit);
		check_norms(false, limit);
	}
}

