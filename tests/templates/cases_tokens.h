// cases_tokens.h: exchanged dims and looked-up rows of tables against loops in double. Included in a namespace that
// holds the templates for one type, `real`.

static void test_transpose()
{
	static const long shapes[][5] = { // outer, first, between, second, inner
		{1, 1, 1, 1, 1}, {1, 5, 1, 7, 1}, {1, 33, 1, 65, 1}, {3, 4, 1, 5, 6}, {2, 3, 4, 5, 1}, {2, 3, 4, 5, 70}, {1, 64, 1, 3, 300},
		{0, 3, 1, 2, 4}, {7, 1, 9, 2, 2},
	};
	for (auto &shape : shapes) {
		const long outer = shape[0], p = shape[1], m = shape[2], q = shape[3], inner = shape[4];
		Buffer<real> x(outer * p * m * q * inner), y(x.count);
		fill_random(x, 1);
		std::vector<double> want(x.count);
		for (long i = 0; i < x.count; i++) {
			const long in = i % inner, b = i / inner % q, k = i / inner / q % m, a = i / inner / q / m % p, o = i / inner / q / m / p;
			want[(((o * q + b) * m + k) * p + a) * inner + in] = x[i];
		}
		tmpl_transpose(y.at(), x.at(), outer, p, m, q, inner, 0);
		expect(y, want, 0, 0, shape_text(outer, p, m, q, inner));
	}
}

// Ids from -1 up to one beyond the table, of which a shard holds rows first and following; `same` of n have one id.
static void embedding_case(long n, long columns, long vocabulary, long first, long rows, long same, bool accumulate)
{
	const char *shape = shape_text(n, columns, vocabulary, first, rows);
	Buffer<int> ids(n), order(3 * n), counts(64 * 512);
	Buffer<real> table(rows * columns), y(n * columns), dy(n * columns), dtable(rows * columns), heads((n + 63) / 64 * columns);
	fill_labels(ids, vocabulary + 1);
	for (long i = 0; i < same; i++)
		ids[i * n / same] = (int)first;
	ids.upload();
	fill_random(table, 1);
	fill_random(dy, 1);
	fill_random(dtable, 1);
	std::vector<double> want(y.count);
	std::vector<long double> exact(table.count);
	for (long i = 0; i < table.count; i++)
		exact[i] = accumulate ? dtable[i] : 0;
	for (long i = 0; i < n; i++)
		for (long c = 0; c < columns; c++) {
			const long row = ids[i] - first;
			if (row < 0 || row >= rows)
				continue;
			want[i * columns + c] = table[row * columns + c];
			exact[row * columns + c] += dy[i * columns + c];
		}
	std::vector<double> grad(exact.begin(), exact.end());
	tmpl_embedding(y.at(), ids.at(), table.at(), n, columns, first, rows, 0);
	expect(y, want, 0, 0, shape);
	tmpl_embedding_grad(dtable.at(), order.at(), counts.at(), heads.at(), ids.at(), dy.at(), n, columns, first, rows, accumulate, 0);
	expect(dtable, grad, 10, 2 + sqrt((double)n), shape);
	std::vector<double> again(dtable.count);
	for (long i = 0; i < dtable.count; i++)
		again[i] = dtable[i];
	if (!accumulate) { // no order of threads changes a bit
		tmpl_embedding_grad(dtable.at(), order.at(), counts.at(), heads.at(), ids.at(), dy.at(), n, columns, first, rows, false, 0);
		expect(dtable, again, 0, 0, shape);
	}
}

static void test_embedding()
{
	for (bool accumulate : {false, true}) {
		embedding_case(1, 1, 1, 0, 1, 0, accumulate);
		embedding_case(40, 7, 5, 0, 5, 0, accumulate);
		embedding_case(500, 33, 300, 0, 300, 100, accumulate);
		embedding_case(500, 64, 300, 150, 150, 1, accumulate);
		embedding_case(1000, 130, 3, 2, 1, 900, accumulate);
		embedding_case(64, 768, 50257, 40000, 4000, 20, accumulate);
		embedding_case(3000, 20, 100, 60, 60, 0, accumulate); // the last shard's padding
		embedding_case(5000, 12, 2, 0, 2, 4000, accumulate);
		embedding_case(700, 5, 300000, 0, 300000, 200, accumulate); // three passes of the sort
		embedding_case(0, 4, 10, 0, 10, 0, accumulate);
	}
}
