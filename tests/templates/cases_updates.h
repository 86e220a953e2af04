// cases_updates.h: the optimizers' updates of many parameters in one launch, for one type of working copies; included in a namespace
// that holds the templates, with `real` and `full`.

// Parameters with all that belongs to them in one arena, in no order that helps; every second one has a working copy, which no weight
// decay applies to, and every third a gradient that is as narrow. Where copies are half as wide, some weights are in halves.
struct Trained {
	enum { ROWS = 7, CHUNK = 1024 };
	static long length(int k) { return (const long[ROWS]){1, 1024, 37, 5000, 4, 1023, 2049}[k]; }

	Buffer<full> arena;
	Buffer<int> table;
	std::vector<double> wanted[ROWS];       // weights
	long chunks;
	int states;

	explicit Trained(int states) : arena(65536), table(ROWS * MP_COLUMNS), chunks(0), states(states)
	{
		int unit = 0;
		for (int column = MP_LOWER; column >= MP_GRADIENT; column--)
			for (int i = 0; i < ROWS; i++) {
				const int k = (i * 3 + column) % ROWS;
				const bool has = column == MP_LOWER ? halved(k) : column == MP_COPY ? k % 2 : column == MP_WEIGHT ? !halved(k) : column < MP_FIRST_STATE + states;
				table[k * MP_COLUMNS + column] = has ? unit : -1;
				if (has)
					unit += (int)((length(k) * sizeof(full) + 255) / 256) + 1;
			}
		for (int k = 0; k < ROWS; k++) {
			int *row = &table[k * MP_COLUMNS];
			row[MP_PARAMETER] = k;
			row[MP_CHUNK] = (int)chunks;
			row[MP_CHUNKS] = (int)((length(k) + CHUNK - 1) / CHUNK);
			row[MP_REST] = (int)(length(k) - (row[MP_CHUNKS] - 1) * CHUNK);
			row[MP_DECAYS] = k % 2 == 0;
			row[MP_ROUNDED] = k % 3 == 0;
			chunks += row[MP_CHUNKS];
			for (long i = 0; i < length(k); i++) {
				set_weight(k, i, (full)random_number());
				wanted[k].push_back(weight(k, i));
				for (int s = 0; s < states; s++)
					at(k, MP_FIRST_STATE + s, i) = 0;
			}
		}
		table.upload();
		draw_gradients();
	}

	long first(int k, int column) { return table[k * MP_COLUMNS + column] * MP_PLACE / (long)sizeof(full); }
	full &at(int k, int column, long i) { return arena[first(k, column) + i]; }

	static bool halved(int k) { return sizeof(real) == sizeof(mp_bf16) && k % 2 && k >= 3; }
	mp_bf16 &upper(int k, long i) { return ((mp_bf16 *)&at(k, MP_COPY, 0))[i]; }
	uint16_t &lower(int k, long i) { return ((uint16_t *)&at(k, MP_LOWER, 0))[i]; }
	full weight(int k, long i) { return halved(k) ? mp_join_halves(upper(k, i), lower(k, i)) : at(k, MP_WEIGHT, i); }
	void set_weight(int k, long i, full value)
	{
		if (!halved(k)) {
			at(k, MP_WEIGHT, i) = value;
			return;
		}
		upper(k, i) = mp_upper_half((float)value);
		lower(k, i) = mp_lower_half((float)value);
	}

	void draw_gradients()
	{
		for (int k = 0; k < ROWS; k++)
			for (long i = 0; i < length(k); i++)
				if (rounded(k))
					((real *)&at(k, MP_GRADIENT, 0))[i] = (real)(full)random_number();
				else
					at(k, MP_GRADIENT, i) = (full)random_number();
		arena.upload();
	}

	bool rounded(int k) { return table[k * MP_COLUMNS + MP_ROUNDED]; }
	double gradient(int k, long i) { return rounded(k) ? (double)((real *)&at(k, MP_GRADIENT, 0))[i] : (double)at(k, MP_GRADIENT, i); }

	// Nothing behind a row's values of two bytes, if these are so narrow, was written. What holds them is then as wanted.
	void check_narrow(std::vector<double> &want, int k, int column, size_t size)
	{
		const full untouched = 77;
		const long bytes = length(k) * (long)size, end = (length(k) * (long)sizeof(full) + 255) / 256 * 256;
		const char *values = (const char *)&at(k, column, 0);
		for (long b = bytes; b < end; b++)
			if (values[b] != ((const char *)&untouched)[b % sizeof(full)])
				fail_case("copy", "guard overwritten", b, 0, 77);
		for (long i = 0; i < length(k); i++)
			want[first(k, column) + i] = (double)at(k, column, i);
	}

	// Weights are those wanted, and their copies the same rounded, to the bit.
	void check_weights(int k, std::vector<double> &want, double steps, const char *shape)
	{
		Buffer<full> whole(length(k));
		for (long i = 0; i < length(k); i++) {
			whole[i] = weight(k, i);
			if (!halved(k))
				want[first(k, MP_WEIGHT) + i] = wanted[k][i];
			if (k % 2 && (double)((const real *)&at(k, MP_COPY, 0))[i] != (double)mp_working_copy<real>(whole[i]))
				fail_case("copy", "wrong value", i, (double)((const real *)&at(k, MP_COPY, 0))[i], (double)whole[i]);
		}
		whole.upload();
		expect(whole, wanted[k], steps, 1, shape);
	}

	// The arena after it was updated like `want`, which holds all but weights and copies.
	void check(std::vector<double> &want, double steps, const char *shape)
	{
		arena.download();
		for (int k = 0; k < ROWS; k++) {
			check_weights(k, want, steps, shape);
			if (k % 2)
				check_narrow(want, k, MP_COPY, sizeof(real));
			if (halved(k))
				check_narrow(want, k, MP_LOWER, sizeof(uint16_t));
		}
		expect(arena, want, steps, 1, shape);
	}
};

// scale: what the gradient is multiplied by; NULL without clipping. momentum: -1 without a velocity.
static void check_sgd(double momentum, bool clipped)
{
	const double decay = 0.01, rate = 0.1, factor = clipped ? 0.25 : 1;
	Trained trained(momentum >= 0);
	Buffer<full> step(1), scale(1);
	step[0] = (full)rate;
	step.upload();
	scale[0] = (full)factor;
	scale.upload();
	std::vector<double> want(trained.arena.count, 77);
	for (int n = 0; n < 3; n++) {
		trained.draw_gradients();
		for (int k = 0; k < Trained::ROWS; k++)
			for (long i = 0; i < Trained::length(k); i++) {
				double &w = trained.wanted[k][i], g = trained.gradient(k, i);
				double change = factor * g + (k % 2 ? 0 : (double)(full)decay) * w;
				if (momentum >= 0) {
					double &velocity = want[trained.first(k, MP_FIRST_STATE) + i];
					velocity = change = n ? (double)(full)momentum * velocity + change : change;
				}
				want[trained.first(k, MP_GRADIENT) + i] = trained.at(k, MP_GRADIENT, i); // as it was
				w -= (double)(full)rate * change;
			}
		tmpl_sgd((char *)trained.arena.at(), trained.table.at(), Trained::ROWS, trained.chunks, Trained::CHUNK, step.at(),
		         clipped ? scale.at() : NULL, (full)fmax(momentum, 0), (full)decay, 0);
		trained.check(want, 8, "sgd");
	}
}

static void test_sgd()
{
	for (double momentum : {-1.0, 0.0, 0.9}) {
		check_sgd(momentum, false);
		check_sgd(momentum, true);
	}
}

// Three steps, the first of which is number `first`: late ones have no bias to correct.
static void check_adamw(int first, bool clipped)
{
	const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.1, rate = 0.01, factor = clipped ? 0.5 : 1;
	Trained trained(2);
	Buffer<full> lr(1), scale(1);
	Buffer<int> step(1);
	lr[0] = (full)rate;
	lr.upload();
	scale[0] = (full)factor;
	scale.upload();
	std::vector<double> want(trained.arena.count, 77);
	for (int n = first; n < first + 3; n++) {
		trained.draw_gradients();
		for (int k = 0; k < Trained::ROWS; k++)
			for (long i = 0; i < Trained::length(k); i++) {
				double &w = trained.wanted[k][i], &m = want[trained.first(k, MP_FIRST_STATE) + i];
				double &v = want[trained.first(k, MP_SECOND_STATE) + i], x = factor * trained.gradient(k, i);
				if (n == first)
					m = v = 0;
				m = beta1 * m + (1 - beta1) * x;
				v = beta2 * v + (1 - beta2) * x * x;
				w -= rate * (k % 2 ? 0 : decay) * w;
				w -= rate / (1 - pow(beta1, n)) * m / (sqrt(v) / sqrt(1 - pow(beta2, n)) + epsilon);
				want[trained.first(k, MP_GRADIENT) + i] = trained.at(k, MP_GRADIENT, i); // as it was
			}
		step[0] = n;
		step.upload();
		tmpl_adamw((char *)trained.arena.at(), trained.table.at(), Trained::ROWS, trained.chunks, Trained::CHUNK, lr.at(), step.at(),
		           clipped ? scale.at() : NULL, beta1, beta2, (full)epsilon, (full)decay, 0);
		trained.check(want, 16, "adamw");
	}
}

static void test_adamw()
{
	for (int first : {1, 1000, 1000000}) {
		check_adamw(first, false);
		check_adamw(first, true);
	}
}
