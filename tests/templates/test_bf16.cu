// sed 's/^typedef float real;/typedef mp_bf16 real;/' of templates/NAME.cu to DIR/bf16_NAME.cu, as run.sh does, then
// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime -IDIR tests/templates/test_bf16.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime -IDIR tests/templates/test_bf16.cu -o T && T        (on a GPU)
//
// A template whose elements are bf16 computes in f32 and rounds once, when it stores. So on the same operands it must give
// what its instance for f32 gives, rounded; losses, statistics and sums, which are kept in f32, to the bit.
#include "harness.h"

namespace f32 {
#include "../../templates/accumulate.cu"
#include "../../templates/class_best.cu"
#include "../../templates/class_sums.cu"
#include "../../templates/clear_padding.cu"
#include "../../templates/column_sums.cu"
#include "../../templates/correct.cu"
#include "../../templates/cross_entropy.cu"
#include "../../templates/cross_entropy_and_grad.cu"
#include "../../templates/cross_entropy_grad.cu"
#include "../../templates/dropout.cu"
#include "../../templates/elementwise.cu"
#include "../../templates/elementwise_rows.cu"
#include "../../templates/embedding.cu"
#include "../../templates/embedding_grad.cu"
#include "../../templates/keep_first.cu"
#include "../../templates/pack.cu"
#include "../../templates/slice.cu"
#include "../../templates/softmax.cu"
#include "../../templates/softmax_grad.cu"
#include "../../templates/sum.cu"
#include "../../templates/transpose.cu"
#include "../../templates/unpack.cu"
}

namespace bf16 {
#include "bf16_accumulate.cu"
#include "bf16_adamw.cu"
#include "bf16_class_best.cu"
#include "bf16_class_sums.cu"
#include "bf16_clear_padding.cu"
#include "bf16_column_sums.cu"
#include "bf16_correct.cu"
#include "bf16_cross_entropy.cu"
#include "bf16_cross_entropy_and_grad.cu"
#include "bf16_cross_entropy_grad.cu"
#include "bf16_dropout.cu"
#include "bf16_elementwise.cu"
#include "bf16_elementwise_rows.cu"
#include "bf16_embedding.cu"
#include "bf16_embedding_grad.cu"
#include "bf16_keep_first.cu"
#include "bf16_pack.cu"
#include "bf16_sgd.cu"
#include "bf16_slice.cu"
#include "bf16_softmax.cu"
#include "bf16_softmax_grad.cu"
#include "bf16_squared_norms.cu"
#include "bf16_sum.cu"
#include "bf16_transpose.cu"
#include "bf16_unpack.cu"
#include "cases_squares.h"
#include "cases_updates.h"
}

// One tensor for both instances: the same values in two types.
struct Elements {
	Buffer<float> wide;
	Buffer<mp_bf16> narrow;

	Elements(long n, double scale) : wide(n), narrow(n)
	{
		for (long i = 0; i < n; i++)
			wide[i] = narrow[i] = (mp_bf16)(float)(random_number() * scale);
		wide.upload();
		narrow.upload();
	}
};

static void expect_rounded(Elements &y, const char *shape, double steps = 0)
{
	y.wide.download();
	std::vector<double> want(y.wide.count);
	for (long i = 0; i < y.wide.count; i++)
		want[i] = (float)(mp_bf16)y.wide[i];
	expect(y.narrow, want, steps, 0, shape);
}

template <class T> static void expect_same(Buffer<T> &got, Buffer<T> &other, const char *shape)
{
	other.download();
	std::vector<double> want(other.count);
	for (long i = 0; i < other.count; i++)
		want[i] = other[i];
	expect(got, want, 0, 0, shape);
}

// On the GPU a thread takes strips of as many bytes in both types: the order of additions differs.
#ifdef __CUDACC__
static const bool ORDERS_DIFFER = true;
#else
static const bool ORDERS_DIFFER = false;
#endif

static void expect_near(Buffer<float> &got, Buffer<float> &other, const char *shape)
{
	other.download();
	std::vector<double> want(other.count);
	for (long i = 0; i < other.count; i++)
		want[i] = other[i];
	expect(got, want, ORDERS_DIFFER ? 20 : 0, 10, shape);
}

static const long row_shapes[][2] = { // rows, cols
	{1, 1}, {1, 10}, {16, 10}, {3, 33}, {65, 64}, {7, 1000}, {2, 5003},
};

// Strips, what is left behind the last one, and addresses that are no multiples of 16 bytes.
static void test_elementwise()
{
	start_group("element-wise");
	for (long n : {1, 7, 8, 64, 1001, 100003})
		for (long shift : {0, 1}) {
			Elements x(n + 1, 2), b(n + 1, 2), y(n + 1, 1);
			f32::tmpl_elementwise(y.wide.at() + shift, x.wide.at() + shift, b.wide.at() + shift, n, 0);
			bf16::tmpl_elementwise(y.narrow.at() + shift, x.narrow.at() + shift, b.narrow.at() + shift, n, 0);
			expect_rounded(y, shape_text(n, shift));
		}
	for (auto &s : row_shapes)
		for (long cols : {s[1], s[1] * 8}) {
			Elements x(s[0] * cols, 2), b(cols, 2), y(s[0] * cols, 1);
			f32::tmpl_elementwise_rows(y.wide.at(), x.wide.at(), b.wide.at(), s[0], cols, 0);
			bf16::tmpl_elementwise_rows(y.narrow.at(), x.narrow.at(), b.narrow.at(), s[0], cols, 0);
			expect_rounded(y, shape_text(s[0], cols));
		}
}

static void test_sum()
{
	static const long shapes[][3] = {{1, 5, 1}, {7, 13, 1}, {1, 1000, 1}, {1, 64, 10}, {2, 129, 65}, {1, 16, 1000}, {2, 200, 4000}};
	start_group("sum");
	for (auto &s : shapes)
		for (bool accumulate : {false, true}) {
			Elements x(s[0] * s[1] * s[2], 1);
			Buffer<float> y(s[0] * s[2]), z(s[0] * s[2]);
			f32::tmpl_sum(y.at(), x.wide.at(), s[0], s[1], s[2], 0.3f, accumulate, 0);
			bf16::tmpl_sum(z.at(), x.narrow.at(), s[0], s[1], s[2], 0.3f, accumulate, 0);
			expect_near(z, y, shape_text(s[0], s[1], s[2]));
			if (s[0] > 1 || s[1] < 4)
				continue;
			Buffer<float> partials(3 * s[2]);
			f32::tmpl_column_sums({{{y.at(), partials.at(), x.wide.at()}}}, s[1], s[2], 3, accumulate, 0);
			bf16::tmpl_column_sums({{{z.at(), partials.at(), x.narrow.at()}}}, s[1], s[2], 3, accumulate, 0);
			expect_near(z, y, shape_text(s[1], s[2]));
		}
}

static void test_softmax()
{
	start_group("softmax");
	for (auto &s : row_shapes) {
		const long n = s[0] * s[1];
		Elements x(n, 10), y(n, 1), dy(n, 1), dx(n, 1);
		f32::tmpl_softmax(y.wide.at(), x.wide.at(), s[0], s[1], 0);
		bf16::tmpl_softmax(y.narrow.at(), x.narrow.at(), s[0], s[1], 0);
		expect_rounded(y, shape_text(s[0], s[1]));
		f32::tmpl_softmax_grad(dx.wide.at(), dy.wide.at(), x.wide.at(), s[0], s[1], 0);
		bf16::tmpl_softmax_grad(dx.narrow.at(), dy.narrow.at(), x.narrow.at(), s[0], s[1], 0);
		expect_rounded(dx, shape_text(s[0], s[1]));
	}
}

static void test_cross_entropy()
{
	start_group("cross_entropy");
	for (auto &s : row_shapes) {
		const long rows = s[0], cols = s[1], classes = cols - (cols > 20), n = rows * cols;
		Elements x(n, 10), dx(n, 1);
		Buffer<int> label(rows);
		fill_labels(label, classes);
		Buffer<float> nll(rows), nll_too(rows), lse(rows), lse_too(rows), slope(rows);
		fill_random(slope, 1);
		const char *shape = shape_text(rows, cols);
		f32::tmpl_cross_entropy(nll.at(), lse.at(), x.wide.at(), label.at(), rows, cols, classes, 0);
		bf16::tmpl_cross_entropy(nll_too.at(), lse_too.at(), x.narrow.at(), label.at(), rows, cols, classes, 0);
		expect_near(nll_too, nll, shape);
		expect_near(lse_too, lse, shape);
		f32::tmpl_cross_entropy_grad(dx.wide.at(), x.wide.at(), label.at(), lse.at(), slope.at(), rows, cols, 0, classes, 1, 0);
		bf16::tmpl_cross_entropy_grad(dx.narrow.at(), x.narrow.at(), label.at(), lse.at(), slope.at(), rows, cols, 0, classes, 1, 0);
		expect_rounded(dx, shape);
		f32::tmpl_cross_entropy_and_grad(dx.wide.at(), nll.at(), x.wide.at(), label.at(), slope.at(), rows, cols, classes, false, 0);
		bf16::tmpl_cross_entropy_and_grad(dx.narrow.at(), nll_too.at(), x.narrow.at(), label.at(), slope.at(), rows, cols, classes, false, 0);
		expect_near(nll_too, nll, shape);
		expect_rounded(dx, shape, ORDERS_DIFFER);
		f32::tmpl_correct(nll.at(), x.wide.at(), label.at(), rows, cols, classes, 0);
		bf16::tmpl_correct(nll_too.at(), x.narrow.at(), label.at(), rows, cols, classes, 0);
		expect_same(nll_too, nll, shape);
	}
}

static void test_classes()
{
	start_group("class_sums, class_best");
	for (auto &s : row_shapes) {
		Elements x(s[0] * s[1], 10);
		Buffer<int> label(s[0]);
		fill_labels(label, s[1]);
		Buffer<float> sums(3 * s[0]), sums_too(3 * s[0]), best(2 * s[0]), best_too(2 * s[0]);
		f32::tmpl_class_sums(sums.at(), x.wide.at(), label.at(), s[0], s[1], 0, s[1], 0);
		bf16::tmpl_class_sums(sums_too.at(), x.narrow.at(), label.at(), s[0], s[1], 0, s[1], 0);
		expect_near(sums_too, sums, shape_text(s[0], s[1]));
		f32::tmpl_class_best(best.at(), x.wide.at(), label.at(), s[0], s[1], 0, s[1], 0);
		bf16::tmpl_class_best(best_too.at(), x.narrow.at(), label.at(), s[0], s[1], 0, s[1], 0);
		expect_same(best_too, best, shape_text(s[0], s[1]));
	}
}

static void test_dropout()
{
	start_group("dropout");
	Buffer<int> key(4);
	for (int i = 0; i < 4; i++)
		key[i] = 11 * i;
	key.upload();
	for (long columns : {1, 7, 64, 1000})
		for (bool evaluating : {false, true}) {
			Elements x(6 * columns, 1), y(6 * columns, 1);
			f32::tmpl_dropout(y.wide.at(), x.wide.at(), key.at(), 2, 3, columns, 5, 9 * columns, columns, 3, 0.3f, evaluating, 0);
			bf16::tmpl_dropout(y.narrow.at(), x.narrow.at(), key.at(), 2, 3, columns, 5, 9 * columns, columns, 3, 0.3f, evaluating, 0);
			expect_rounded(y, shape_text(2, 3, columns));
		}
}

static void test_embedding()
{
	start_group("embedding");
	for (long columns : {1, 10, 65}) {
		const long n = 40, rows = 12;
		Buffer<int> ids(n), order(3 * n), order_too(3 * n), counts(64 * 512);
		Buffer<float> heads(columns);
		fill_labels(ids, 20);
		Buffer<float> table(rows * columns), slope(rows * columns), slope_too(rows * columns);
		fill_random(table, 1);
		Elements y(n * columns, 1);
		f32::tmpl_embedding(y.wide.at(), ids.at(), table.at(), n, columns, 4, rows, 0);
		bf16::tmpl_embedding(y.narrow.at(), ids.at(), table.at(), n, columns, 4, rows, 0);
		expect_rounded(y, shape_text(n, columns));
		Elements dy(n * columns, 1);
		for (bool accumulate : {false, true}) {
			f32::tmpl_embedding_grad(slope.at(), order.at(), counts.at(), heads.at(), ids.at(), dy.wide.at(), n, columns, 4, rows, accumulate, 0);
			bf16::tmpl_embedding_grad(slope_too.at(), order_too.at(), counts.at(), heads.at(), ids.at(), dy.narrow.at(), n, columns, 4, rows, accumulate, 0);
			expect_same(slope_too, slope, shape_text(n, columns));
		}
	}
}

static void test_copies()
{
	start_group("copies and sums");
	for (long inner : {1, 3, 64}) {
		const long outer = 5, extent = 11, n = 3, piece = 4, whole = outer * extent * inner, cut = outer * piece * inner;
		const char *shape = shape_text(outer, extent, inner);
		Elements x(whole, 1), y(whole, 1), part(cut, 1), packed(n * cut, 1);
		for (bool first : {true, false}) {
			f32::tmpl_accumulate(y.wide.at(), x.wide.at(), whole, first, 0);
			bf16::tmpl_accumulate(y.narrow.at(), x.narrow.at(), whole, first, 0);
			expect_rounded(y, shape);
			f32::tmpl_keep_first(y.wide.at(), x.wide.at(), whole, first, 0);
			bf16::tmpl_keep_first(y.narrow.at(), x.narrow.at(), whole, first, 0);
			expect_rounded(y, shape);
		}
		f32::tmpl_slice(part.wide.at(), x.wide.at(), outer, extent, piece, inner, 2, 0);
		bf16::tmpl_slice(part.narrow.at(), x.narrow.at(), outer, extent, piece, inner, 2, 0);
		expect_rounded(part, shape);
		f32::tmpl_pack(packed.wide.at(), x.wide.at(), outer, extent, piece, inner, n, 0);
		bf16::tmpl_pack(packed.narrow.at(), x.narrow.at(), outer, extent, piece, inner, n, 0);
		expect_rounded(packed, shape);
		f32::tmpl_unpack(y.wide.at(), packed.wide.at(), outer, extent, piece, inner, n, 0);
		bf16::tmpl_unpack(y.narrow.at(), packed.narrow.at(), outer, extent, piece, inner, n, 0);
		expect_rounded(y, shape);
		f32::tmpl_transpose(y.wide.at(), x.wide.at(), 1, outer, 1, extent, inner, 0);
		bf16::tmpl_transpose(y.narrow.at(), x.narrow.at(), 1, outer, 1, extent, inner, 0);
		expect_rounded(y, shape);
		f32::tmpl_clear_padding(part.wide.at(), outer, piece, inner, 3, 0);
		bf16::tmpl_clear_padding(part.narrow.at(), outer, piece, inner, 3, 0);
		expect_rounded(part, shape);
	}
}

// Halves are the float again, all of its bits; the upper one is as near as a bf16 can be, and of two such the larger.
static void test_halves()
{
	start_group("halves");
	group.cases++;
	for (uint32_t upper = 0; upper < 1 << 16; upper++)
		for (uint32_t lower : {0u, 1u, 2u, 0x1234u, 0x7fffu, 0x8000u, 0x8001u, 0xfedcu, 0xffffu}) {
			const uint32_t bits = upper << 16 | lower;
			float value;
			memcpy(&value, &bits, sizeof value);
			const mp_bf16 half = mp_upper_half(value), even = value;
			const float joined = mp_join_halves(half, mp_lower_half(value)), copy = mp_working_copy<mp_bf16>(value);
			const bool same = !memcmp(&joined, &value, sizeof value) || (value != value && joined != joined);
			const bool nearest = (float)half == (float)even || (fabs((double)value - (float)half) == fabs((double)value - (float)even) && fabs((float)half) > fabs((float)even));
			if (!same || (value == value ? !nearest || copy != (float)half : copy == copy))
				fail_case("split and joined", "wrong value", bits, (float)half, value);
		}
}

int main()
{
	test_halves();
	test_elementwise();
	test_sum();
	test_softmax();
	test_cross_entropy();
	test_classes();
	test_dropout();
	test_embedding();
	test_copies();
	start_group("sgd");
	bf16::test_sgd();
	start_group("adamw");
	bf16::test_adamw();
	start_group("squared norms");
	bf16::test_squares();
	start_group(NULL);
	return group.failed_groups > 0;
}
