// activations.cu: what an epilogue of mp_gemm computes on the CPU, with the functions that element-wise kernels are made of,
// which are C++.
#include "activations.h"

#include "../mp_math.h"

#define ACTIVATIONS(TYPE) \
	void mp_gelu_##TYPE(TYPE *x, size_t count) \
	{ \
		for (size_t i = 0; i < count; i++) \
			x[i] = mp_gelu_tanh(x[i]); \
	} \
	void mp_gelu_grad_##TYPE(TYPE *__restrict dy, const TYPE *__restrict x, size_t count) \
	{ \
		for (size_t i = 0; i < count; i++) \
			dy[i] = mp_gelu_tanh_grad(dy[i], x[i]); \
	}

ACTIVATIONS(float)
ACTIVATIONS(double)
