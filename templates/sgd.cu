// sgd.cu: the template of stochastic gradient descent with momentum and weight decay, as torch.optim.SGD defines them
// (dampening 0, no Nesterov). PyTorch's first step stores the gradient as the velocity, which is what a velocity of
// zero gives. All parameters of a device take one launch: a table says where they lie (mp_table.h). The learning rate is read
// from device memory, so that a captured step can change it.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// moving: there is a velocity.
template <bool moving, class Weights, class element> MP_DEVICE void tmpl_sgd_part(const Weights &w, full *__restrict__ velocity,
		const element *__restrict__ gradient, long n, full factor, full step, full momentum, full decay)
{
	mp_change_part<MP_STRIP(full)>(n, [=](auto strip, long c) {
		constexpr int width = strip;
		const auto slope = mp_load<width>(gradient + c);
		const auto weight = mp_load_weights<width>(w, c);
		full new_weight[width], change[width];
		for (int e = 0; e < width; e++)
			change[e] = factor * (full)slope[e] + decay * weight[e];
		if constexpr (moving) {
			const auto before = mp_load<width>(velocity + c);
			for (int e = 0; e < width; e++)
				change[e] = momentum * before[e] + change[e];
		}
		for (int e = 0; e < width; e++)
			new_weight[e] = weight[e] - step * change[e];
		mp_store_weights<width>(w, c, new_weight);
		if constexpr (moving)
			mp_store<width>(velocity + c, change, width);
	});
}

static __global__ void tmpl_sgd_kernel(char *arena, const int *__restrict__ table, long rows, long chunks, long chunk,
		const full *__restrict__ rate, const full *__restrict__ scale, full momentum, full decay)
{
	mp_each_part(table, rows, chunks, chunk, [&](const int *row, long first, long n) {
		full *const velocity = mp_table_tensor<full>(arena, row, MP_FIRST_STATE, first);
		const full factor = scale ? *scale : 1, own = row[MP_DECAYS] ? decay : 0;
		mp_with_weights<real, full>(arena, row, first, [=](const auto &w) {
			mp_with_gradient<real, full>(arena, row, first, [=](const auto *gradient) {
				if (velocity)
					tmpl_sgd_part<true>(w, velocity, gradient, n, factor, *rate, momentum, own);
				else
					tmpl_sgd_part<false>(w, velocity, gradient, n, factor, *rate, momentum, own);
			});
		});
	});
}

// Every parameter w of the table -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new
// velocity, its first state. Without momentum there is none, without clipping scale is NULL; decay is none where the table says
// so; the copy of w, where it has one, is the new w rounded (mp_halves.h). table: int[rows, MP_COLUMNS], with `chunks` chunks of `chunk` elements.
void tmpl_sgd(char *arena, const int *table, long rows, long chunks, long chunk, const full *rate, const full *scale,
		full momentum, full decay, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_sgd_kernel, mp_row_blocks(chunks * MP_PARTS), MP_THREADS, stream, arena, table, rows, chunks, chunk, rate, scale,
			momentum, decay);
}
