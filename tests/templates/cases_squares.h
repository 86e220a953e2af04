// cases_squares.h: the sums of squares of gradients of either type that lie anywhere in an arena, for one type of working copies; included
// in a namespace that holds the templates, with `real` and `full`.

// Tensors of some lengths, each from a multiple of 256 bytes on; every second of nine elements has one. The first and the last are whole
// everywhere, the second is shared out over the axis of bit 1, the third over those of bits 0 and 1.
static void check_squares(int behind)
{
	enum { CHUNK = 96, ROWS = 4, ELEMENTS = 9 };
	const long length[ROWS] = {96, 1037, 1, 517};
	const int split[ROWS] = {0, 2, 3, 0};
	Buffer<int> table(ROWS * MP_COLUMNS);
	Buffer<full> arena(4096), partial(19), squares(ELEMENTS);
	std::vector<double> expected(ELEMENTS);
	int chunks = 0;
	size_t offset = 0;
	for (int k = 0; k < ROWS; k++) {
		int n = (int)((length[k] + CHUNK - 1) / CHUNK);
		const int row[MP_COLUMNS] = {(int)(offset / 256), -1, -1, -1, -1, -1, 2 * k + 1, chunks, n, (int)(length[k] - (n - 1) * CHUNK), split[k], 0, k % 2};
		for (int i = 0; i < MP_COLUMNS; i++)
			table[k * MP_COLUMNS + i] = row[i];
		const bool counted = (behind & 1) == 0 ? (behind & 2) == 0 || k == 1 || k == 2 : k == 2;
		for (long i = 0; i < length[k]; i++) {
			full *const kept = &arena[(long)(offset / sizeof(full))] + i;
			real *const rounded = (real *)&arena[(long)(offset / sizeof(full))] + i;
			const double x = random_number();
			double stored = row[MP_ROUNDED] ? (double)(*rounded = (real)(full)x) : (double)(*kept = (full)x);
			expected[2 * k + 1] += counted ? stored * stored : 0;
		}
		chunks += n;
		offset += (length[k] * sizeof(full) + 255) / 256 * 256 + 256;
	}
	arena.upload();
	table.upload();
	tmpl_squared_norms(squares.at(), partial.at(), table.at(), (char *)arena.at(), ROWS, chunks, ELEMENTS, CHUNK, behind, 0);
	expect(squares, expected, 64, 1, shape_text(ELEMENTS));
}

static void test_squares()
{
	for (int behind = 0; behind < 4; behind++)
		check_squares(behind);
}
