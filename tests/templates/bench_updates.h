// bench_updates.h: the optimizers' steps and the norm of gradients for bench_norms.cu, of all parameters of a model in one launch;
// included in a namespace that holds the templates.

// Parameters in an arena, each beside its gradient, states and working copy; only the table is known to the host.
struct Model {
	std::vector<int> rows;
	long elements = 0, chunks = 0, units = 0;

	// A matrix's gradient is in the type of working copies, and where these are half as wide, weights are in halves.
	void add(long n)
	{
		enum { CHUNK = 65536 };
		int row[MP_COLUMNS] = {};
		const bool halved = sizeof(real) == sizeof(mp_bf16);
		for (int column = MP_GRADIENT; column <= MP_LOWER; column++) {
			row[column] = (column == MP_WEIGHT ? !halved : column < MP_COPY || halved) ? (int)units : -1;
			units += (n * (long)sizeof(full) + 255) / 256;
		}
		row[MP_PARAMETER] = (int)(rows.size() / MP_COLUMNS);
		row[MP_CHUNK] = (int)chunks;
		row[MP_CHUNKS] = (int)((n + CHUNK - 1) / CHUNK);
		row[MP_REST] = (int)(n - (row[MP_CHUNKS] - 1) * (long)CHUNK);
		row[MP_DECAYS] = row[MP_ROUNDED] = n > 100000;
		rows.insert(rows.end(), row, row + MP_COLUMNS);
		elements += n;
		chunks += row[MP_CHUNKS];
	}
};

static Model gpt2(long layers, long width, long vocabulary)
{
	Model model;
	model.add(vocabulary * width);
	model.add(1024 * width);
	for (long k = 0; k < layers; k++)
		for (long n : {width, width, 3 * width * width, 3 * width, width * width, width, width, width, 4 * width * width, 4 * width,
		               4 * width * width, width})
			model.add(n);
	return model;
}

static void bench_model(const char *type, const char *name, const Model &model)
{
	const long count = (long)model.rows.size() / MP_COLUMNS, chunk = 65536;
	char *arena = (char *)device_alloc(model.units * MP_PLACE);
#ifdef __CUDACC__
	cudaMemset(arena, 0x3c, model.units * MP_PLACE); // numbers of about 0.01
#else
	memset(arena, 0x3c, model.units * MP_PLACE);
#endif
	Buffer<int> table((long)model.rows.size()), step(1);
	Buffer<full> rate(1), scale(1), partial(model.chunks), squares(count);
	for (long i = 0; i < table.count; i++)
		table[i] = model.rows[i];
	table.upload();
	step[0] = 100;
	step.upload();
	rate[0] = scale[0] = (full)1e-3;
	rate.upload();
	scale.upload();
	const double n = (double)model.elements, gradients = (double)sizeof(real) * n;
	char what[80];
	auto named = [&](const char *kernel) {
		snprintf(what, sizeof what, "%s %s, %ld parameters of %s", type, kernel, count, name);
		return what;
	};
	report(named("adamw"), 6 * sizeof(full) * n + gradients, [&] {
		tmpl_adamw(arena, table.at(), count, model.chunks, chunk, rate.at(), step.at(), scale.at(), 0.9, 0.95, 1e-8, 0.1, 0);
	});
	report(named("sgd with momentum"), 4 * sizeof(full) * n + gradients,
	       [&] { tmpl_sgd(arena, table.at(), count, model.chunks, chunk, rate.at(), NULL, 0.9, 0, 0); });
	report(named("squared norms"), gradients, [&] {
		tmpl_squared_norms(squares.at(), partial.at(), table.at(), arena, count, model.chunks, count, chunk, 0, 0);
	});
	device_free(arena);
}

static void bench_updates(const char *type, bool whole)
{
	Model mlp;
	for (long n : {784000, 1000, 500000, 500, 100000, 200, 2000, 10})
		mlp.add(n);
	bench_model(type, "mlp", mlp);
	bench_model(type, "gpt2 124M", whole ? gpt2(12, 768, 50304) : gpt2(1, 768, 500));
	if (whole)
		bench_model(type, "gpt2 1558M", gpt2(48, 1600, 50304));
}
