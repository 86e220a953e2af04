// The kernel of runtime/cuda/part_sums.cu on the CPU: sums of parts of all types, at any place, into memory of their own or into one of
// the parts, are those of a loop over the parts, bit for bit.
//   c++ -std=c++17 -O1 -g -Iruntime/host -Iruntime -Itests/cuda tests/cuda/part_sums_test.cpp
#include "emulated.h"

#include <type_traits>

#include "../../runtime/cuda/part_sums.cu"

static unsigned blocks;         // of a grid that is cut short, which gives the same; 0: it has all
static int wide_launches, narrow_launches;

template <class Real, int Width> static bool launches(const void *kernel, dim3 grid, dim3 block, void **arguments)
{
	if (kernel != (const void *)add_up<Real, Width>)
		return false;
	Real *to = *(Real **)arguments[0];
	mp_parts parts = *(mp_parts *)arguments[1];
	size_t count = *(size_t *)arguments[2];
	(Width > 1 ? wide_launches : narrow_launches)++;
	emulate(blocks ? dim3(blocks) : grid, block, [&] { add_up<Real, Width>(to, parts, count); });
	return true;
}

static cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t, cudaStream_t)
{
	bool launched = launches<float, 4>(kernel, grid, block, arguments) || launches<float, 1>(kernel, grid, block, arguments)
	                || launches<double, 2>(kernel, grid, block, arguments) || launches<double, 1>(kernel, grid, block, arguments)
	                || launches<mp_bf16, 8>(kernel, grid, block, arguments) || launches<mp_bf16, 1>(kernel, grid, block, arguments);
	CHECK(launched && block.x == THREADS, "another kernel, or %u threads", block.x);
	return cudaSuccess;
}

// Of all sizes, so that sums depend on the order.
static double random_value()
{
	static unsigned seed = 1;
	seed = seed * 1664525 + 1013904223;
	double mantissa = (double)(seed >> 8) / (1 << 23) - 1;
	seed = seed * 1664525 + 1013904223;
	return ldexp(mantissa, (int)(seed >> 8) % 40 - 20);
}

// into: the part that the sum is written into; parts: none of them. odd: the place or the part that is one element off, or -1.
template <class Real> static void check_sum(enum mp_type type, int parts, size_t count, int into, int odd)
{
	using Sum = typename std::conditional<sizeof(Real) == 8, double, float>::type;
	const size_t apart = (count + 31) / 16 * 16;
	std::vector<Real> memory((size_t)(parts + 1) * apart + 16);
	Real *begin = (Real *)(((uintptr_t)memory.data() + 15) / 16 * 16);
	mp_parts from = {};
	for (auto &x : memory)
		x = (Real)random_value();
	from.count = parts;
	for (int part = 0; part < parts; part++)
		from.at[part] = begin + (size_t)part * apart + (part == odd);
	Real *to = begin + (size_t)into * apart + (into == odd);
	std::vector<Real> right(memory);
	for (size_t i = 0; i < count; i++) {
		Sum sum = 0;
		for (int part = 0; part < parts; part++)
			sum += (Sum)((const Real *)from.at[part])[i];
		right[(size_t)(to - memory.data()) + i] = (Real)sum;
	}
	int before = wide_launches;
	mp_sum_parts(to, from, count * sizeof(Real), type, NULL);
	bool aligned = (odd < 0 || (odd == parts && into != parts)) && count * sizeof(Real) % 16 == 0;
	CHECK((wide_launches > before) == aligned, "%zu elements of type %d, %d odd", count, (int)type, odd);
	for (size_t i = 0; i < memory.size(); i++)
		CHECK(!memcmp(&memory[i], &right[i], sizeof(Real)), "%d parts of %zu elements of type %d into %d, %d odd: element %td is %g, not %g", parts,
		      count, (int)type, into, odd, &memory[i] - to, (double)memory[i], (double)right[i]);
}

template <class Real> static void check_type(enum mp_type type)
{
	for (int parts : {2, 3, 8})
		for (int into : {0, parts - 1, parts})
			for (int odd : {-1, 0, parts - 1, parts})
				for (size_t count : {0, 1, 7, 64, 3000, 3001, 9000})
					check_sum<Real>(type, parts, count, into, odd);
}

int main()
{
	blocks = 2;
	check_type<float>(MP_F32);
	check_type<double>(MP_F64);
	check_type<mp_bf16>(MP_BF16);
	blocks = 0;
	check_sum<float>(MP_F32, 3, 300000, 3, -1);
	check_sum<mp_bf16>(MP_BF16, 2, 70001, 0, -1);
	CHECK(wide_launches && narrow_launches, "%d and %d launches", wide_launches, narrow_launches);
	printf("ok part_sums\n");
	return 0;
}
