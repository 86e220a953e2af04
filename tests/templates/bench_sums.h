// bench_sums.h: bias gradients, losses and gradients of tables for bench_norms.cu, at the shapes of language models; included in a
// namespace that holds the templates. `thousands` of 1024: 32 x 1024 tokens; fewer on the host.

static void bench_column_sums(const char *type, long thousands)
{
	static const long shapes[][2] = { // rows, columns
		{32768, 768}, {32768, 2304}, {32768, 3072}, {16384, 1024}, {16384, 3072}, {16384, 4096}, {8192, 1600}, {8192, 4800}, {8192, 6400},
		{2816, 768}, {1024, 1601},
	};
	for (auto &shape : shapes) {
		const long rows = shape[0] * thousands / 1024, columns = shape[1], tile = 512 / (long)sizeof(real);
		long chunks = 4 * 132 / ((columns + tile - 1) / tile); // as graph/gradients.c
		chunks = rows / 32 < chunks ? rows / 32 : chunks;
		Buffer<real> x(rows * columns);
		Buffer<full> y(columns), partials((chunks + 1) * columns);
		const double moved = sizeof(real) * (double)(rows * columns);
		report(named(type, "column sums", rows, columns), moved,
		       [&] { tmpl_column_sums({{{y.at(), partials.at(), x.at()}}}, rows, columns, chunks < 1 ? 1 : chunks, false, 0); });
	}
	for (long of_norm : {1024, 1600})
		for (int count : {2, 3}) // as the gradients of a norm's weight and bias, and of the bias of the layer before
			for (long chunks : {33, 1}) {
				const long rows = of_norm == 1024 ? 1056 : 528;
				Buffer<real> all(count * rows * of_norm);
				Buffer<full> of_chunks(count * chunks * of_norm), of_all(count * of_norm);
				struct mp_addends sums = {};
				for (int k = 0; k < count; k++)
					sums.of[k] = {of_all.at() + k * of_norm, of_chunks.at() + k * chunks * of_norm, all.at() + k * rows * of_norm};
				report(named(type, chunks > 1 ? count == 2 ? "two column sums in chunks" : "three column sums in chunks"
				                              : count == 2 ? "two column sums" : "three column sums", rows, of_norm),
				       sizeof(real) * (double)all.count, [&] { tmpl_column_sums(sums, rows, of_norm, chunks, false, 0); });
			}
	const long positions = thousands, batch = 32, columns = 768;
	Buffer<real> x(positions * batch * columns);
	Buffer<full> y(positions * columns);
	report(named(type, "sums over 32 samples", positions, columns), sizeof(real) * (double)x.count + sizeof(full) * (double)y.count,
	       [&] { tmpl_sum(y.at(), x.at(), positions, batch, columns, 1, false, 0); });
}

static void bench_losses(const char *type, long rows, long cols)
{
	Buffer<real> logits(rows * cols);
	Buffer<full> nll(rows), lse(rows), slope(rows);
	Buffer<int> label(rows);
	fill_random(logits, 5);
	fill_labels(label, cols);
	const double moved = sizeof(real) * (double)(rows * cols);
	report(named(type, "cross entropy", rows, cols), moved,
	       [&] { tmpl_cross_entropy(nll.at(), lse.at(), logits.at(), label.at(), rows, cols, cols, 0); });
	report(named(type, "cross entropy gradient in place", rows, cols), 2 * moved, [&] {
		tmpl_cross_entropy_grad(logits.at(), logits.at(), label.at(), lse.at(), slope.at(), rows, cols, 0, cols, 1, 0);
	});
	report(named(type, "both in one in place", rows, cols), 2 * moved, [&] {
		tmpl_cross_entropy_and_grad(logits.at(), nll.at(), logits.at(), label.at(), slope.at(), rows, cols, cols, false, 0);
	});
}

// Tokens as in text: an eighth of them are the same.
static void bench_tables(const char *type, long n, long rows, long columns)
{
	Buffer<full> dtable(rows * columns), heads((n + 63) / 64 * columns);
	Buffer<int> order(3 * n), counts(64 * 512), ids(n);
	Buffer<real> dy(n * columns);
	fill_labels(ids, rows);
	for (long i = 0; i < n; i += 8)
		ids[i] = 262;
	ids.upload();
	report(named(type, "embedding gradient", n, rows), sizeof(real) * (double)dy.count + sizeof(full) * (double)dtable.count, [&] {
		tmpl_embedding_grad(dtable.at(), order.at(), counts.at(), heads.at(), ids.at(), dy.at(), n, columns, 0, rows, false, 0);
	});
}

static void bench_sums(const char *type, long thousands)
{
	bench_column_sums(type, thousands);
	for (long cols : {50304, 50257, 128256})
		bench_losses(type, (cols < 100000 ? 32 : 8) * thousands / 2, cols);
	bench_tables(type, 32 * thousands, 50304, 768);
	bench_tables(type, 8 * thousands, 50304, 1600);
	bench_tables(type, 8 * thousands, 128256, 2048);
}
