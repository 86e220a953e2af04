// rope.cu: the template of rotary position embeddings (Su et al., arXiv:2104.09864) and, turning back, of their gradient.
// Elements i and i + size / 2 of a head are a pair, turned by the angle position * frequency[i]. Of the heads of a
// group, laid out as queries, key, value, the last one stays as it is.
//
// Cosines and sines are computed where they are used, once for some heads of a position, so that no table has to be read: the
// angle in double, which positions of any length need, brought into one turn before it becomes a float.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

enum { tmpl_rope_most_pairs = 256, tmpl_rope_heads_each = 8 }; // of a head at most; that a thread turns on the GPU

struct tmpl_rope_frequencies {
	double at[tmpl_rope_most_pairs];
};

// Where a head starts whose pairs are turned, by `n` adjacent ones.
template <int width> MP_DEVICE void tmpl_rope_turn(real *y, const real *x, const full *cosine, const full *sine, long half, int n)
{
	const auto first = mp_load<width>(x), second = mp_load<width>(x + half);
	real to_first[width], to_second[width];
	for (int e = 0; e < n; e++) {
		to_first[e] = first[e] * cosine[e] - second[e] * sine[e];
		to_second[e] = second[e] * cosine[e] + first[e] * sine[e];
	}
	mp_store<width>(y, to_first, n);
	mp_store<width>(y + half, to_second, n);
}

template <int width> MP_DEVICE void tmpl_rope_copy(real *y, const real *x, int n)
{
	const auto from = mp_load<width>(x);
	real to[width];
	for (int e = 0; e < n; e++)
		to[e] = from[e];
	mp_store<width>(y, to, n);
}

// Heads j, j + units, … of a position; y and x are at the position's first head.
template <int width> MP_DEVICE void tmpl_rope_heads(real *y, const real *x, const full *cosine, const full *sine, long j, long units,
		long groups, long heads, long half, long c)
{
	const int n = mp_strip_width<width>(half - c);
	MP_UNROLL
	for (long head = j; head < groups * heads; head += units) {
		const long at = head * 2 * half + c;
		if (head % heads < heads - 1) {
			tmpl_rope_turn<width>(y + at, x + at, cosine, sine, half, n);
		} else if (y != x) {
			tmpl_rope_copy<width>(y + at, x + at, n);
			tmpl_rope_copy<width>(y + at + half, x + at + half, n);
		}
	}
}

template <int width> MP_DEVICE void tmpl_rope_positions(real *y, const real *x, const tmpl_rope_frequencies &frequency, long positions,
		long first, long groups, long heads, long half, long units, bool back)
{
	const long strips = (half + width - 1) / width;
	for (long i = mp_first(); i < positions * units * strips; i += mp_stride()) {
		const long c = i % strips * width, unit = i / strips, position = unit / units;
		full cosine[width], sine[width];
		for (int e = 0; e < width && c + e < half; e++) {
			mp_sincos((double)(first + position) * frequency.at[c + e], &sine[e], &cosine[e]);
			sine[e] = back ? -sine[e] : sine[e];
		}
		const long at = position * groups * heads * 2 * half;
		tmpl_rope_heads<width>(y + at, x + at, cosine, sine, unit % units, units, groups, heads, half, c);
	}
}

static __global__ void tmpl_rope_kernel(real *y, const real *x, tmpl_rope_frequencies frequency, long positions, long first,
		long groups, long heads, long half, long units, bool back, bool wide)
{
	if (wide)
		tmpl_rope_positions<MP_WIDE(real)>(y, x, frequency, positions, first, groups, heads, half, units, back);
	else
		tmpl_rope_positions<MP_NARROW>(y, x, frequency, positions, first, groups, heads, half, units, back);
}

// theta^(-i / half), and with a factor > 1 the slow ones, whose waves are longer than the original context, slower by it:
// by how much grows evenly between waves of original / high and original / low (Llama 3.1).
static void tmpl_rope_set(tmpl_rope_frequencies *frequency, long half, double theta, double factor, double low, double high,
		double original)
{
	for (long i = 0; i < half; i++) {
		const double plain = pow(theta, -(double)i / (double)half);
		const double fast = factor == 1 ? 1 : (original * plain / 6.283185307179586 - low) / (high - low);
		const double kept = fast < 0 ? 0 : fast > 1 ? 1 : fast;
		frequency->at[i] = plain * (kept + (1 - kept) / factor);
	}
}

// y: real[positions, groups, heads, size] = x with the pairs of all but the last head of each group turned by the angles of
// position `first` and following, the other way when `back`; y may be x. size: even, at most 512; factor 1: low, high and original
// mean nothing
void tmpl_rope(real *y, const real *x, long positions, long groups, long heads, long size, long first, bool back, double theta,
		double factor, double low, double high, double original, cudaStream_t stream)
{
	const long half = size / 2, units = MP_THREADS == 1 ? 1 : (groups * heads + tmpl_rope_heads_each - 1) / tmpl_rope_heads_each;
	const bool wide = mp_wide<real>(half, y, x);
	const long strips = wide ? half / MP_WIDE(real) : half;
	tmpl_rope_frequencies frequency = {};
	tmpl_rope_set(&frequency, half, theta, factor, low, high, original);
	MP_LAUNCH(tmpl_rope_kernel, mp_blocks(positions * units * strips), MP_THREADS, stream,
			y, x, frequency, positions, first, groups, heads, half, units, back, wide);
}
