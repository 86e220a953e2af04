// The kernel of runtime/cuda/conv_parts.cu on the CPU: parts are TF32, make up what they are parts of, and lie where they should.
//   c++ -std=c++17 -O1 -g -fsanitize=address -Iruntime/host -Iruntime -Itests/cuda tests/cuda/conv_parts_test.cpp
#include "emulated.h"

#include <cfloat>
#include <cmath>

#include "../../runtime/cuda/conv_parts.cu"

static job launched;

static cudaError_t cudaLaunchKernel(const void *, dim3 grid, dim3 block, void **arguments, size_t, cudaStream_t)
{
	launched = *(job *)arguments[0];
	emulate(grid, block, [] { split(launched); });
	return cudaSuccess;
}

static bool is_tf32(float x)
{
	unsigned bits;
	memcpy(&bits, &x, sizeof bits);
	return bits % (1 << 13) == 0;
}

static void check_parts(float x, float high, float low)
{
	if (std::isfinite(x) && fabsf(x) < 3.4e38f) {
		CHECK(is_tf32(high) && is_tf32(low), "%a is %a + %a, which are not TF32", x, high, low);
		CHECK(fabs((double)x - high - low) <= fabs((double)x) * 0x1p-22 + 0x1p-126, "%a is not %a + %a", x, high, low);
		CHECK(fabsf(low) <= fabsf(x) * 0x1p-11f, "%a has the low part %a", x, low);
	} else {
		CHECK((high == x || (x != x && high != high)) && low == 0, "%a has the parts %a and %a", x, high, low);
	}
}

static void check_split(size_t rows, size_t channels, size_t width, bool high_first)
{
	static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, -NAN, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-42f, 1, -1.00048828125f};
	std::vector<float> x(rows * channels), both(2 * x.size(), 77), highs(x.size(), 77);
	unsigned seed = 1;
	for (size_t i = 0; i < x.size(); i++) {
		seed = seed * 1664525 + 1013904223;
		x[i] = i % 7 ? ldexpf((float)(seed >> 8) / (1 << 23) - 1, (int)(seed % 60) - 30) : special[seed / 64 % 12];
	}
	mp_conv_parts(x.data(), rows, channels, width, high_first, both.data(), highs.data(), NULL);
	for (size_t row = 0; row < rows; row++)
		for (size_t c = 0; c < channels; c++) {
			const float *of = &both[row * 2 * channels + c], high = of[high_first ? 0 : channels], low = of[high_first ? channels : 0];
			check_parts(x[row * channels + c], high, low);
			CHECK(!memcmp(&highs[(c / width * rows + row) * width + c % width], &high, sizeof high), "row %zu, channel %zu", row, c);
		}
}

int main()
{
	for (bool high_first : {false, true}) {
		check_split(5, 64, 32, high_first);
		check_split(1, 384, 384, high_first);
		check_split(300, 96, 32, high_first);
	}
	printf("ok conv_parts\n");
	return 0;
}
