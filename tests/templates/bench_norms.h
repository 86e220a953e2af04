// bench_norms.h: the calls of bench_norms.cu for one type, n elements each; included in a namespace that holds the templates.

static char *named(const char *type, const char *what, long rows, long cols)
{
	static char name[80];
	snprintf(name, sizeof name, "%s %s [%ld,%ld]", type, what, rows, cols);
	return name;
}

static void bench(const char *type, long n)
{
	const double e = sizeof(real);
	Buffer<real> x(n), y(n), dy(n), dx(n);
	Buffer<full> w(65536), mean(n / 64), rstd(n / 64), sums(1L << 23), more(1L << 23), of_dx(1L << 23);
	fill_random(x, 2);
	fill_random(dy, 1);
	fill_random(w, 1);
	fill_random(mean, 0.1);
	fill_random(rstd, 1);
	report(named(type, "element-wise relu(a + b)", 1, n), 3 * e * (double)n, [&] { tmpl_elementwise(y.at(), x.at(), dy.at(), n, 0); });
	for (long cols : {768, 1600, 8192, 769})
		report(named(type, "relu(a + bias)", n / cols, cols), 2 * e * (double)(n / cols * cols),
		       [&] { tmpl_elementwise_rows(y.at(), x.at(), dy.at(), n / cols, cols, 0); });
	static const long norms[][2] = { // columns, rows; 0: as many as there are elements for
		{128, 0}, {768, 0}, {1024, 0}, {1024, 16384}, {1600, 0}, {2048, 0}, {3072, 16384}, {4096, 0}, {8192, 0}, {16384, 0}, {769, 0},
	};
	for (auto &norm : norms) {
		const long cols = norm[0], rows = norm[1] && norm[1] < n / cols ? norm[1] : n / cols;
		const double moved = e * (double)(rows * cols);
		report(named(type, "layer norm", rows, cols), 2 * moved,
		       [&] { tmpl_layer_norm(y.at(), mean.at(), rstd.at(), x.at(), w.at(), w.at(), rows, cols, (full)1e-5, 0); });
		report(named(type, "rms norm", rows, cols), 2 * moved,
		       [&] { tmpl_rms_norm(y.at(), rstd.at(), x.at(), w.at(), rows, cols, (full)1e-5, 0); });
		const long of_warp = 32 * (sizeof(real) == 2 ? 16 : 12), threads = (cols + of_warp - 1) / of_warp * 32; // as graph/norms.c
		const long most = 132 * (threads < 512 ? 512 / threads : 1), chunks = rows / 8 < most ? rows / 8 : most;
		for (full *dx_sums : {(full *)NULL, of_dx.at()}) {
			report(named(type, dx_sums ? "layer norm gradient and dx's sums" : "layer norm gradient", rows, cols), 3 * moved, [&] {
				tmpl_layer_norm_grad(dx.at(), sums.at(), more.at(), dx_sums, dy.at(), x.at(), mean.at(), rstd.at(), w.at(), rows, cols, chunks, 0);
			});
			report(named(type, dx_sums ? "rms norm gradient and dx's sums" : "rms norm gradient", rows, cols), 3 * moved,
			       [&] { tmpl_rms_norm_grad(dx.at(), sums.at(), dx_sums, dy.at(), x.at(), rstd.at(), w.at(), rows, cols, chunks, 0); });
		}
	}
	for (long size : {64, 128})
		for (long heads : {3, 6}) {
			const long positions = 2048, groups = n / positions / heads / size;
			const double moved = e * (double)(positions * groups * heads * size);
			report(named(type, heads == 3 ? "rope, 2 of 3 heads in place" : "rope, 5 of 6 heads in place", positions, size),
			       2 * moved * (double)(heads - 1) / (double)heads,
			       [&] { tmpl_rope(x.at(), x.at(), positions, groups, heads, size, 0, false, 10000, 1, 0, 0, 0, 0); });
			report(named(type, "rope", positions, size), 2 * moved,
			       [&] { tmpl_rope(y.at(), x.at(), positions, groups, heads, size, 0, false, 10000, 1, 0, 0, 0, 0); });
		}
	for (long cols : {1024, 8192, 14336, 1001}) {
		const long rows = n / 2 / cols;
		const double moved = e * (double)(rows * cols);
		report(named(type, "swiglu", rows, cols), 3 * moved, [&] { tmpl_swiglu(y.at(), x.at(), rows, cols, 0); });
		report(named(type, "swiglu gradient", rows, cols), 5 * moved, [&] { tmpl_swiglu_grad(dx.at(), dy.at(), x.at(), rows, cols, 0); });
	}
}
