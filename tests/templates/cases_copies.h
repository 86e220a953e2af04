// cases_copies.h: slices, packing, updates and element-wise templates against loops in double. Included in a namespace
// that holds the templates for one type, `real`.

static const long piece_shapes[][4] = { // outer, extent, inner, n
	{1, 1, 1, 1}, {1, 10, 1, 2}, {3, 10, 7, 4}, {5, 7, 3, 2}, {2, 3, 1, 8}, {1, 1000, 33, 4}, {64, 12, 5, 3},
	{129, 4, 1, 2}, {2, 5, 300, 4}, {1, 9, 5000, 2},
};

static void test_pieces()
{
	for (auto &shape : piece_shapes) {
		long outer = shape[0], extent = shape[1], inner = shape[2], n = shape[3], piece = (extent + n - 1) / n;
		Buffer<real> x(outer * extent * inner), packed(n * outer * piece * inner), back(outer * extent * inner);
		fill_random(x, 1);
		std::vector<double> want(packed.count), same(x.count);
		for (long k = 0; k < n; k++) {
			Buffer<real> y(outer * piece * inner);
			std::vector<double> want_piece(y.count);
			for (long o = 0; o < outer; o++)
				for (long p = 0; p < piece; p++)
					for (long i = 0; i < inner; i++) {
						long at = k * piece + p;
						double value = at < extent ? x[(o * extent + at) * inner + i] : 0;
						want_piece[(o * piece + p) * inner + i] = value;
						want[((k * outer + o) * piece + p) * inner + i] = value;
					}
			tmpl_slice(y.at(), x.at(), outer, extent, piece, inner, (int)k, 0);
			expect(y, want_piece, 0, 0, shape_text(outer, extent, inner, n, k));
		}
		tmpl_pack(packed.at(), x.at(), outer, extent, piece, inner, (int)n, 0);
		expect(packed, want, 0, 0, shape_text(outer, extent, inner, n));
		for (long i = 0; i < x.count; i++)
			same[i] = x[i];
		tmpl_unpack(back.at(), packed.at(), outer, extent, piece, inner, (int)n, 0);
		expect(back, same, 0, 0, shape_text(outer, extent, inner, n));
	}
}

static void test_clear_padding()
{
	for (auto &shape : piece_shapes)
		for (long valid = 0; valid <= shape[1]; valid += 1 + shape[1] / 3) {
			long outer = shape[0], piece = shape[1], inner = shape[2];
			Buffer<real> y(outer * piece * inner);
			fill_random(y, 1);
			std::vector<double> want(y.count);
			for (long i = 0; i < y.count; i++)
				want[i] = i / inner % piece < valid ? y[i] : 0;
			tmpl_clear_padding(y.at(), outer, piece, inner, valid, 0);
			expect(y, want, 0, 0, shape_text(outer, piece, inner, valid));
		}
}

static const long lengths[] = {0, 1, 3, 31, 33, 255, 257, 1000, 4096, 1200007};

static void test_flat()
{
	for (long n : lengths)
		for (bool flag : {false, true}) {
			Buffer<real> x(n), y(n), z(n);
			fill_random(x, 1);
			fill_random(y, 1);
			std::vector<double> kept(n), sum(n);
			for (long i = 0; i < n; i++) {
				kept[i] = flag ? x[i] : 0;
				sum[i] = flag ? x[i] : y[i] + x[i];
			}
			tmpl_keep_first(z.at(), x.at(), n, flag, 0);
			expect(z, kept, 0, 0, shape_text(n));
			tmpl_accumulate(y.at(), x.at(), n, flag, 0);
			expect(y, sum, 0, 0, shape_text(n));
		}
}

// Of several lengths at once, from odd places: aligned to 16 bytes, to the element's, to nothing.
static void test_copies()
{
	for (long n : lengths) {
		Buffer<real> x(n + 3), y(n + 3), z(n + 3), w(5);
		fill_random(x, 1);
		fill_random(y, 1);
		fill_random(z, 1);
		fill_random(w, 1);
		std::vector<double> same(n + 3), moved(n + 3), bytes(5);
		for (long i = 0; i < n + 3; i++) {
			same[i] = x[i];
			moved[i] = i > 0 && i <= n ? x[i + 1] : z[i];
		}
		for (long i = 0; i < 5; i++)
			bytes[i] = i > 0 && i < 4 ? x[i - 1] : w[i];
		const size_t size = sizeof(real);
		tmpl_copy_all({{{y.at(), x.at(), (n + 3) * size}, {z.at() + 1, x.at() + 2, n * size}, {w.at() + 1, x.at(), 3 * size}}}, 0);
		expect(y, same, 0, 0, shape_text(n));
		expect(z, moved, 0, 0, shape_text(n));
		expect(w, bytes, 0, 0, shape_text(n));
	}
}

static void test_elementwise()
{
	for (long n : lengths) {
		Buffer<real> x0(n), x1(n), y(n);
		fill_random(x0, 1);
		fill_random(x1, 1);
		std::vector<double> want(n);
		for (long i = 0; i < n; i++)
			want[i] = fmax((double)x0[i] + x1[i], 0);
		tmpl_elementwise(y.at(), x0.at(), x1.at(), n, 0);
		expect(y, want, 1, 1, shape_text(n));
	}
	for (auto &shape : row_shapes) {
		long rows = shape[0], columns = shape[1];
		Buffer<real> x0(rows * columns), x1(columns), y(rows * columns);
		fill_random(x0, 1);
		fill_random(x1, 1);
		std::vector<double> want(rows * columns);
		for (long i = 0; i < rows * columns; i++)
			want[i] = fmax((double)x0[i] + x1[i % columns], 0);
		tmpl_elementwise_rows(y.at(), x0.at(), x1.at(), rows, columns, 0);
		expect(y, want, 1, 1, shape_text(rows, columns));
	}
}
