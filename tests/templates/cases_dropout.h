// cases_dropout.h: dropout against a Philox of its own, against a published vector, cut into shards, and against the
// rate. Included in a namespace that holds the templates for one type, `real`.

// The uniform number of an element: Philox 4x32-10 as its paper writes it down, in 64-bit words.
static double uniform_number(unsigned long long number, Buffer<int> &key, unsigned layer)
{
	typedef unsigned long long word;
	const word low = 0xffffffff, odd[2] = {0xD2511F53, 0xCD9E8D57}, weyl[2] = {0x9E3779B9, 0xBB67AE85};
	word k[2] = {(unsigned)key[0] ^ layer, (unsigned)key[1]};
	word x[4] = {number / 4 & low, number / 4 >> 32, (unsigned)key[2], (unsigned)key[3]};
	for (int round = 0; round < 10; round++) {
		const word left = odd[0] * x[0], right = odd[1] * x[2];
		const word next[4] = {right >> 32 ^ x[1] ^ k[0], right & low, left >> 32 ^ x[3] ^ k[1], left & low};
		memcpy(x, next, sizeof x);
		for (int i = 0; i < 2; i++)
			k[i] = (k[i] + weyl[i]) & low;
	}
	return (double)(x[number % 4] >> 8) / 16777216;
}

static void set_key(Buffer<int> &key, int seed, int step)
{
	key[0] = seed;
	key[1] = seed * 77;
	key[2] = step;
	key[3] = 0;
	key.upload();
}

// y: real[outer, extent, inner], of a tensor whose second dim is whole_extent and whose shard begins at first_outer, first.
static void dropout_of(real *y, const real *x, const int *key, long outer, long extent, long inner, long whole_extent, long first_outer,
                       long first, unsigned layer, real rate, bool evaluating, cudaStream_t stream)
{
	tmpl_dropout(y, x, key, 1, outer, extent * inner, (first_outer * whole_extent + first) * inner, 0, whole_extent * inner, layer, rate,
	             evaluating, stream);
}

// Random123's kat_vectors: key and counter 0. The rate that equals a number keeps its element, the next one drops it.
static void test_dropout_vector()
{
	static const unsigned words[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
	for (unsigned layer : {0u, 0x81234567u})
		for (int k = 0; k < 4; k++)
			for (int above = 0; above < 2; above++) {
				const real rate = (real)((words[k] >> 8) + above) / (real)16777216;
				Buffer<int> key(4);
				Buffer<real> x(4), y(4);
				set_key(key, 0, 0);
				key[0] = (int)layer;
				key.upload();
				fill_random(x, 1);
				dropout_of(y.at(), x.at(), key.at(), 1, 4, 1, 4, 0, 0, layer, rate, false, 0);
				std::vector<double> want(4);
				for (int i = 0; i < 4; i++)
					want[i] = (words[i] >> 8) >= (words[k] >> 8) + above ? x[i] / (1 - (double)rate) : 0;
				expect(y, want, 4, 0, shape_text(layer, k, above));
			}
}

struct DropoutCase {
	long outer, extent, inner, whole_extent, first_outer, first;
	double rate;
};

static const DropoutCase dropout_cases[] = {
	{1, 1, 1, 1, 0, 0, 0.5},
	{3, 10, 1, 10, 0, 0, 0.1},
	{3, 10, 7, 10, 5, 0, 0.5},
	{4, 8, 16, 32, 2, 8, 0.3},
	{5, 3, 7, 10, 1, 3, 0.5},
	{70, 1, 1, 9, 3, 4, 0.25},
	{2, 1, 3, 2, 0, 1, 0.75},
	{2, 1000, 33, 1000, 1 << 20, 0, 0.2},
	{64, 5, 64, 20, 1L << 30, 15, 0.9}, // numbers beyond 2^34: the counter's second word
	{3, 100, 4, 300, 0, 1, 0},
	{3, 100, 4, 300, 0, 1, 1},
	{1, 5, 3, 10, 0, 5, 0.5},
	{0, 4, 4, 4, 0, 0, 0.5},
};

static void dropout_case(const DropoutCase &shape, bool evaluating)
{
	Buffer<int> key(4);
	Buffer<real> x(shape.outer * shape.extent * shape.inner), y(x.count);
	fill_random(x, 1);
	set_key(key, 1234567, 9);
	std::vector<double> want(x.count);
	for (long i = 0; i < x.count; i++) {
		const long o = i / shape.inner / shape.extent, e = i / shape.inner % shape.extent;
		const long number = ((shape.first_outer + o) * shape.whole_extent + shape.first + e) * shape.inner + i % shape.inner;
		const bool kept = uniform_number((unsigned long long)number, key, 5) >= (double)(real)shape.rate;
		want[i] = evaluating ? x[i] : kept ? x[i] / (1 - (double)(real)shape.rate) : 0;
	}
	dropout_of(y.at(), x.at(), key.at(), shape.outer, shape.extent, shape.inner, shape.whole_extent, shape.first_outer,
	             shape.first, 5, (real)shape.rate, evaluating, 0);
	expect(y, want, evaluating ? 0 : 4, 0, shape_text(shape.outer, shape.extent, shape.inner, shape.first));
}

// Every cut of a tensor into samples and shards drops the same elements.
static void test_shards()
{
	const long outer = 12, extent = 30, inner = 7;
	Buffer<int> key(4);
	Buffer<real> x(outer * extent * inner), y(x.count);
	fill_random(x, 1);
	set_key(key, 3, 4);
	dropout_of(y.at(), x.at(), key.at(), outer, extent, inner, extent, 0, 0, 2, (real)0.4, false, 0);
	y.download();
	for (long samples : {1, 3, 4, 12})
		for (long shards : {1, 2, 3, 5, 30})
			for (long s = 0; s < outer / samples; s++)
				for (long shard = 0; shard < shards; shard++) {
					const long piece = extent / shards, first = shard * piece;
					Buffer<real> part(samples * piece * inner), result(part.count);
					std::vector<double> want(part.count);
					for (long i = 0; i < part.count; i++) {
						const long from = ((s * samples + i / inner / piece) * extent + first) * inner + i % (piece * inner);
						part[i] = x[from];
						want[i] = y[from];
					}
					part.upload();
					dropout_of(result.at(), part.at(), key.at(), samples, piece, inner, extent, s * samples, first, 2,
					             (real)0.4, false, 0);
					expect(result, want, 0, 0, shape_text(samples, shards, s, shard));
				}
}

// Two dims cut, with one between: [2,a,3,b,5] in pieces along a and b.
static void test_two_cuts()
{
	const long a = 6, b = 4, inner = 5, n = 2 * a * 3 * b * inner;
	Buffer<int> key(4);
	Buffer<real> x(n), y(n);
	fill_random(x, 1);
	set_key(key, 5, 6);
	tmpl_dropout(y.at(), x.at(), key.at(), 1, 1, n, 0, 0, 0, 2, (real)0.4, false, 0);
	y.download();
	for (long pa : {1, 2, 3, 6})
		for (long pb : {1, 2, 4})
			for (long piece = 0; piece < a / pa * (b / pb); piece++) {
				const long fa = piece % (a / pa) * pa, fb = piece / (a / pa) * pb;
				Buffer<real> part(2 * pa * 3 * pb * inner), result(part.count);
				std::vector<double> want(part.count);
				for (long i = 0; i < part.count; i++) {
					const long in = i % inner, ib = i / inner % pb, m = i / inner / pb % 3, ia = i / inner / pb / 3 % pa, o = i / inner / pb / 3 / pa;
					const long from = (((o * a + fa + ia) * 3 + m) * b + fb + ib) * inner + in;
					part[i] = x[from];
					want[i] = y[from];
				}
				part.upload();
				tmpl_dropout(result.at(), part.at(), key.at(), 2, pa * 3, pb * inner, fa * 3 * b * inner + fb * inner, a * 3 * b * inner,
				             b * inner, 2, (real)0.4, false, 0);
				expect(result, want, 0, 0, shape_text(pa, pb, piece));
			}
}

// The share of kept elements is 1 - rate, and of those that two layers, two steps or two seeds keep its square; both
// within 5 standard deviations.
static void test_rate()
{
	const long n = 400000;
	Buffer<real> x(n), y(n), z(n);
	for (long i = 0; i < n; i++)
		x[i] = 1;
	x.upload();
	for (double rate : {0.1, 0.5, 0.8})
		for (int other = 0; other < 3; other++) {
			Buffer<int> key(4), other_key(4);
			set_key(key, 8, 1);
			set_key(other_key, other == 0 ? 9 : 8, other == 1 ? 2 : 1);
			dropout_of(y.at(), x.at(), key.at(), 1, n, 1, n, 0, 0, 1, (real)rate, false, 0);
			dropout_of(z.at(), x.at(), other_key.at(), 1, n, 1, n, 0, 0, other == 2 ? 2 : 1, (real)rate, false, 0);
			y.download();
			z.download();
			double kept = 0, both = 0;
			for (long i = 0; i < n; i++) {
				kept += y[i] != 0;
				both += y[i] != 0 && z[i] != 0;
			}
			for (double share : {1 - rate, (1 - rate) * (1 - rate)}) {
				const double got = share == 1 - rate ? kept : both, limit = 5 * sqrt((double)n * share * (1 - share));
				group.cases++;
				if (!(fabs(got - (double)n * share) < limit))
					fail_case(shape_text(other), "not the rate", (long)(rate * 100), got, (double)n * share);
			}
		}
}

static void test_dropout()
{
	test_dropout_vector();
	for (const DropoutCase &shape : dropout_cases) {
		dropout_case(shape, false);
		dropout_case(shape, true);
	}
	test_shards();
	test_two_cuts();
	test_rate();
}
