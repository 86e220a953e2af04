// cases_rows.h: reductions, softmax, cross-entropy and accuracy against loops in double. Included in a namespace that
// holds the templates for one type, `real`.

static const long sum_shapes[][3] = { // outer, n, inner
	{1, 1, 1}, {1, 5, 1}, {1, 31, 1}, {1, 33, 1}, {1, 1000, 1}, {1, 100003, 1}, {7, 13, 1}, {100, 10, 1}, {300, 3, 1},
	{1, 64, 10}, {1, 33, 7}, {1, 1, 257}, {1, 1025, 300}, {1, 16, 1000}, {1, 64, 8}, {1, 5000, 9}, {3, 5, 4},
	{2, 129, 65}, {5, 1, 3}, {4, 70, 256}, {2, 200, 513}, {1, 0, 3}, {2, 0, 1},
};

static void test_sum()
{
	for (auto &shape : sum_shapes)
		for (int variant = 0; variant < 4; variant++) {
			long outer = shape[0], n = shape[1], inner = shape[2];
			bool accumulate = variant & 1;
			double scale = variant & 2 ? 0.3 : 1;
			Buffer<real> y(outer * inner), x(outer * n * inner);
			fill_random(x, 1);
			fill_random(y, 1);
			std::vector<double> want(outer * inner);
			for (long o = 0; o < outer; o++)
				for (long i = 0; i < inner; i++) {
					long double sum = 0;
					for (long k = 0; k < n; k++)
						sum += x[(o * n + k) * inner + i];
					want[o * inner + i] = (double)((double)(real)scale * sum) + (accumulate ? y[o * inner + i] : 0);
				}
			tmpl_sum(y.at(), x.at(), outer, n, inner, (real)scale, accumulate, 0);
			expect(y, want, 10, 2 + sqrt((double)n), shape_text(outer, n, inner));
		}
}

static void test_column_sums()
{
	static const long shapes[][3] = { // rows, columns, chunks
		{64, 10, 2}, {65, 7, 2}, {1000, 768, 31}, {300, 257, 9}, {129, 1600, 4}, {3, 1, 3}, {2048, 24, 64}, {5, 9, 8},
		{257, 30, 1}, {1, 16, 1}, {129, 1600, 1}, {1056, 1024, 1}, {2111, 7, 1}, {1001, 260, 1}, {6, 1, 1},
	};
	for (auto &shape : shapes)
		for (bool accumulate : {false, true}) {
			long rows = shape[0], columns = shape[1], chunks = shape[2], count = 1 + rows % MP_ADDENDS;
			Buffer<real> y(count * columns), partials(count * chunks * columns), x(count * rows * columns);
			fill_random(x, 1);
			fill_random(y, 1);
			std::vector<double> want(count * columns);
			struct mp_addends sums = {};
			for (long k = 0; k < count; k++) {
				sums.of[k] = {y.at() + k * columns, chunks > 1 ? partials.at() + k * chunks * columns : NULL, x.at() + k * rows * columns};
				for (long c = 0; c < columns; c++) {
					long double sum = accumulate ? (long double)y[k * columns + c] : 0;
					for (long row = 0; row < rows; row++)
						sum += x[(k * rows + row) * columns + c];
					want[k * columns + c] = (double)sum;
				}
			}
			tmpl_column_sums(sums, rows, columns, chunks, accumulate, 0);
			expect(y, want, 10, 2 + sqrt((double)rows), shape_text(rows, columns, chunks));
		}
}

static const long row_shapes[][2] = { // rows, cols
	{1, 1}, {5, 1}, {1, 10}, {16, 10}, {3, 31}, {3, 33}, {65, 64}, {7, 1000}, {2, 5003}, {1, 50257}, {300, 7},
};

static void softmax_row(std::vector<double> &y, Buffer<real> &x, long row, long cols)
{
	double largest = x[row * cols];
	long double sum = 0;
	for (long c = 0; c < cols; c++)
		largest = fmax(largest, x[row * cols + c]);
	for (long c = 0; c < cols; c++)
		sum += exp(x[row * cols + c] - largest);
	for (long c = 0; c < cols; c++)
		y[row * cols + c] = (double)(expl(x[row * cols + c] - largest) / sum);
}

static void test_softmax()
{
	for (auto &shape : row_shapes)
		for (double size : {1.0, 30.0, 3000.0}) {
			long rows = shape[0], cols = shape[1];
			Buffer<real> x(rows * cols), y(rows * cols), dy(rows * cols), dx(rows * cols);
			fill_random(x, size);
			fill_random(dy, 1);
			for (long i = 0; i < x.count; i++) // a causal mask: what lies right of the diagonal
				x[i] = size == 30 && i % cols > i / cols + cols / 2 ? -(real)INFINITY : x[i];
			x.upload();
			std::vector<double> want(rows * cols), grad(rows * cols);
			for (long row = 0; row < rows; row++) {
				softmax_row(want, x, row, cols);
				long double dot = 0;
				for (long c = row * cols; c < (row + 1) * cols; c++)
					dot += dy[c] * want[c];
				for (long c = row * cols; c < (row + 1) * cols; c++)
					grad[c] = (double)(want[c] * (dy[c] - dot));
			}
			tmpl_softmax(y.at(), x.at(), rows, cols, 0);
			expect(y, want, 30, 0, shape_text(rows, cols));
			tmpl_softmax_grad(dx.at(), dy.at(), y.at(), rows, cols, 0);
			expect(dx, grad, 60, 0.1, shape_text(rows, cols));
		}
}

// Classes shared out over so many devices, the last of which may have none: combined they are what the whole is.
static void split_case(Buffer<real> &logits, Buffer<int> &label, Buffer<real> &dnll, Buffer<real> &lse, long rows, long cols, long classes,
                       long parts, const std::vector<double> &nll, const std::vector<double> &grad)
{
	const long piece = (cols + parts - 1) / parts;
	const char *shape = shape_text(rows, cols, classes, parts);
	Buffer<real> sums(parts * 3 * rows), best(parts * 2 * rows), got_nll(rows), got_lse(rows), hit(rows), whole_hit(rows);
	std::vector<double> want_lse(rows), want_hit(rows);
	lse.download();
	for (long part = 0; part < parts; part++) {
		const long first = part * piece, left = classes - first, valid = left < 0 ? 0 : left < piece ? left : piece;
		Buffer<real> shard(rows * piece), dshard(rows * piece);
		std::vector<double> want(rows * piece);
		for (long i = 0; i < rows * piece; i++) {
			const long row = i / piece, c = first + i % piece;
			shard[i] = c < cols ? logits[row * cols + c] : 1000; // padding holds anything
			want[i] = c < classes ? grad[row * cols + c] : 0;
		}
		shard.upload();
		tmpl_class_sums(sums.at() + part * 3 * rows, shard.at(), label.at(), rows, piece, first, valid, 0);
		tmpl_class_best(best.at() + part * 2 * rows, shard.at(), label.at(), rows, piece, first, valid, 0);
		tmpl_cross_entropy_grad(dshard.at(), shard.at(), label.at(), lse.at(), dnll.at(), rows, piece, first, valid, 1, 0);
		expect(dshard, want, 60, 0.5, shape);
	}
	tmpl_cross_entropy_of_sums(got_nll.at(), got_lse.at(), sums.at(), label.at(), parts, rows, 0);
	tmpl_correct_of_best(hit.at(), best.at(), label.at(), parts, rows, 0);
	tmpl_correct(whole_hit.at(), logits.at(), label.at(), rows, cols, classes, 0);
	whole_hit.download();
	for (long row = 0; row < rows; row++) {
		want_lse[row] = lse[row];
		want_hit[row] = whole_hit[row];
	}
	expect(got_lse, want_lse, 8, 2, shape);
	expect(got_nll, nll, 8, 20, shape);
	expect(hit, want_hit, 0, 0, shape);
}

// Both in one, with one slope for all rows: apart, then in place; while evaluating the gradient's memory stays as it is.
static void trained_case(Buffer<real> &logits, Buffer<int> &label, Buffer<real> &dnll, long rows, long cols, long classes,
                         const std::vector<double> &nll, std::vector<double> grad)
{
	const char *shape = shape_text(rows, cols, classes);
	Buffer<real> got(rows), lse(rows), dlogits(rows * cols);
	std::vector<double> before(rows * cols, 77);
	for (long i = 0; i < rows * cols; i++)
		grad[i] = grad[i] / (double)dnll[i / cols] * (double)dnll[0];
	tmpl_cross_entropy_and_grad(dlogits.at(), got.at(), logits.at(), label.at(), dnll.at(), rows, cols, classes, true, 0);
	expect(got, nll, 4, 20, shape);
	expect(dlogits, before, 0, 0, shape);
	tmpl_cross_entropy(got.at(), lse.at(), logits.at(), label.at(), rows, cols, classes, 0);
	tmpl_cross_entropy_grad(dlogits.at(), logits.at(), label.at(), lse.at(), dnll.at(), rows, cols, 0, classes, 0, 0);
	expect(dlogits, grad, 60, 0.5, shape);
	for (Buffer<real> *to : {&dlogits, &logits}) {
		tmpl_cross_entropy_and_grad(to->at(), got.at(), logits.at(), label.at(), dnll.at(), rows, cols, classes, false, 0);
		expect(got, nll, 4, 20, shape);
		expect(*to, grad, 60, 0.5, shape);
	}
}

static void cross_entropy_case(long rows, long cols, long classes, bool in_place)
{
	Buffer<real> logits(rows * cols), nll(rows), lse(rows), dnll(rows), dlogits(rows * cols);
	Buffer<int> label(rows);
	fill_random(logits, 20);
	fill_random(dnll, 1);
	fill_labels(label, classes);
	std::vector<double> want_nll(rows), want_lse(rows), want(rows * cols);
	for (long row = 0; row < rows; row++) {
		double largest = -INFINITY;
		long double sum = 0;
		for (long c = 0; c < classes; c++)
			largest = fmax(largest, logits[row * cols + c]);
		for (long c = 0; c < classes; c++)
			sum += exp(logits[row * cols + c] - largest);
		want_lse[row] = (double)(largest + logl(sum));
		want_nll[row] = label[row] < 0 ? 0 : want_lse[row] - logits[row * cols + label[row]];
		for (long c = 0; c < cols; c++)
			want[row * cols + c] = label[row] < 0 || c >= classes ? 0
				: (exp(logits[row * cols + c] - want_lse[row]) - (c == label[row])) * dnll[row];
	}
	tmpl_cross_entropy(nll.at(), lse.at(), logits.at(), label.at(), rows, cols, classes, 0);
	expect(lse, want_lse, 4, 1, shape_text(rows, cols));
	expect(nll, want_nll, 4, 20, shape_text(rows, cols));
	for (long parts : {2, 3, 8})
		split_case(logits, label, dnll, lse, rows, cols, classes, parts, want_nll, want);
	Buffer<real> &to = in_place ? logits : dlogits;
	tmpl_cross_entropy_grad(to.at(), logits.at(), label.at(), lse.at(), dnll.at(), rows, cols, 0, classes, 1, 0);
	expect(to, want, 60, 0.5, shape_text(rows, cols));
	if (!in_place)
		trained_case(logits, label, dnll, rows, cols, classes, want_nll, want);
}

// Few distinct logits, so that most rows have ties; some rows are all -infinity or hold a NaN.
static void correct_case(long rows, long cols)
{
	Buffer<real> logits(rows * cols), hit(rows);
	Buffer<int> label(rows);
	for (long i = 0; i < rows * cols; i++)
		logits[i] = (real)(int)(random_number() * 4);
	for (long c = 0; c < cols && rows > 2; c++)
		logits[cols + c] = -(real)INFINITY;
	if (rows > 2)
		logits[2 * cols] = (real)NAN;
	logits.upload();
	std::vector<double> want(rows);
	for (long row = 0; row < rows; row++) {
		long best = cols;
		for (long c = 0; c < cols; c++)
			if (logits[row * cols + c] == logits[row * cols + c]
			    && (best == cols || logits[row * cols + c] > logits[row * cols + best]))
				best = c;
		int shift = (int)(random_number() * 1.5);
		label[row] = row % 5 == 4 ? -1 : (int)best + shift;
		want[row] = label[row] == best && best < cols;
		if (best == cols)
			label[row] = 0;
	}
	label.upload();
	tmpl_correct(hit.at(), logits.at(), label.at(), rows, cols, cols, 0);
	expect(hit, want, 0, 0, shape_text(rows, cols));
}

static void test_losses()
{
	for (auto &shape : row_shapes) {
		cross_entropy_case(shape[0], shape[1], shape[1], false);
		cross_entropy_case(shape[0], shape[1], shape[1], true);
		cross_entropy_case(shape[0], shape[1], (shape[1] + 1) / 2, false);
		correct_case(shape[0], shape[1]);
	}
	cross_entropy_case(270, 5003, 5003, true); // more rows than blocks
	for (long n : {0, 1, 31, 64, 1000, 100000}) {
		Buffer<int> label(n);
		Buffer<real> count(1);
		fill_labels(label, 3);
		double valid = 0;
		for (long i = 0; i < n; i++)
			valid += label[i] >= 0;
		tmpl_count_valid(count.at(), label.at(), n, 0);
		expect(count, {valid}, 0, 0, shape_text(n));
	}
}

#ifdef __CUDACC__
// Kernels are right for any block of a multiple of 32 threads, and any grid, not only for what launchers choose.
static void test_block_sizes()
{
	const long rows = 37, cols = 259;
	Buffer<real> x(rows * cols), y(rows), total(cols), soft(rows * cols);
	fill_random(x, 1);
	std::vector<double> want_rows(rows), want_columns(cols), want_softmax(rows * cols);
	for (long row = 0; row < rows; row++) {
		softmax_row(want_softmax, x, row, cols);
		for (long c = 0; c < cols; c++) {
			want_rows[row] += x[row * cols + c];
			want_columns[c] += x[row * cols + c];
		}
	}
	for (int block : {32, 64, 96, 160, 256, 992, 1024})
		for (int grid : {1, 3, 200}) {
			MP_LAUNCH(tmpl_sum_rows_kernel, grid, block, 0, y.at(), x.at(), rows, cols, 1, false);
			expect(y, want_rows, 4, 20, shape_text(block, grid));
			for (int lanes = 2; lanes <= 32 && block <= MP_SUM_THREADS; lanes *= 2) {
				MP_LAUNCH(tmpl_sum_columns_kernel, grid, block, 0, total.at(), x.at(), 1, rows, cols, 1, false, lanes, false);
				expect(total, want_columns, 4, 20, shape_text(block, grid, lanes));
			}
			MP_LAUNCH(tmpl_softmax_kernel, grid, block, 0, soft.at(), x.at(), rows, cols);
			expect(soft, want_softmax, 30, 0, shape_text(block, grid));
			if (block * grid >= 128) {
				Buffer<real> sum(rows * cols);
				std::vector<double> want(rows * cols);
				for (long i = 0; i < rows * cols; i++)
					want[i] = fmax((double)x[i] + x[i % cols], 0);
				MP_LAUNCH(tmpl_elementwise_rows_kernel, grid, block, 0, sum.at(), x.at(), x.at(), rows, cols, 128, false);
				expect(sum, want, 1, 1, shape_text(block, grid));
			}
		}
}
#endif
