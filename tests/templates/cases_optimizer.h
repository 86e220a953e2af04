// cases_optimizer.h: the norm of gradients that lie anywhere in an arena.

// Tensors of some lengths, each from a multiple of 256 bytes on; every second of seven elements has one. The first is whole everywhere, the
// second shared out over the axis of bit 1, the third over those of bits 0 and 1.
static void check_norms(int behind, double limit)
{
	enum { CHUNK = 100, ROWS = 3, ELEMENTS = 7 };
	const long length[ROWS] = {100, 1037, 1};
	const int split[ROWS] = {0, 2, 3};
	Buffer<int> table(ROWS * MP_COLUMNS);
	Buffer<real> arena(4096), partial(13), squares(ELEMENTS), norm(1), scale(1);
	fill_random(arena, 1);
	std::vector<double> expected(ELEMENTS);
	double total = 0;
	int chunks = 0;
	size_t offset = 0;
	for (int k = 0; k < ROWS; k++) {
		int n = (int)((length[k] + CHUNK - 1) / CHUNK);
		const int row[MP_COLUMNS] = {(int)(offset / 256), -1, -1, -1, -1, 2 * k + 1, chunks, n, (int)(length[k] - (n - 1) * CHUNK), split[k], 0};
		for (int i = 0; i < MP_COLUMNS; i++)
			table[k * MP_COLUMNS + i] = row[i];
		const bool counted = (behind & 1) == 0 ? (behind & 2) == 0 || k > 0 : k == 2;
		for (long i = 0; i < length[k] && counted; i++) {
			double x = arena[(long)(offset / sizeof(real)) + i];
			expected[2 * k + 1] += x * x;
		}
		total += expected[2 * k + 1];
		chunks += n;
		offset += (length[k] * sizeof(real) + 255) / 256 * 256 + 256;
	}
	table.upload();
	tmpl_squared_norms(squares.at(), partial.at(), table.at(), (char *)arena.at(), ROWS, chunks, ELEMENTS, CHUNK, behind, 0);
	expect(squares, expected, 64, 1, shape_text(ELEMENTS));
	tmpl_gradient_norm(norm.at(), scale.at(), squares.at(), ELEMENTS, (real)limit, 0);
	expect(norm, std::vector<double>{sqrt(total)}, 64, 1, "norm");
	expect(scale, std::vector<double>{limit > 0 ? fmin(1, limit / (sqrt(total) + 1e-6)) : 1}, 64, 1, "scale");
}

static void test_norms()
{
	for (double limit : {0.0, 1.0, 1e6})
		for (int behind = 0; behind < 4; behind++)
			check_norms(behind, limit);
}

