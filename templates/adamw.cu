// adamw.cu: the template of AdamW (Loshchilov and Hutter, arXiv:1711.05101) as torch.optim.AdamW defines it: decay
// apart from the gradient, bias corrected by the number of the step. All parameters of a device take one launch: a table says
// where they lie (mp_table.h). Learning rate and step are read from device memory, so that a captured step can change them.
// 1 - beta^step is -expm1(step * log(beta)): exact also where beta is nearly 1.
#include "mp_kernel.h"

typedef float real; //@ param
typedef float full; //@ param

// What is the same for all elements of a parameter.
struct tmpl_adamw_constants {
	full factor, keep, size, root, beta1, beta2, rest1, rest2, epsilon;
};

template <class Weights, class element> MP_DEVICE void tmpl_adamw_part(const Weights &w, full *__restrict__ average, full *__restrict__ square,
		const element *__restrict__ gradient, long n, const tmpl_adamw_constants &with)
{
	mp_change_part<MP_STRIP(full)>(n, [=](auto strip, long c) {
		constexpr int width = strip;
		const auto slope = mp_load<width>(gradient + c);
		const auto weight = mp_load_weights<width>(w, c);
		const auto first = mp_load<width>(average + c), second = mp_load<width>(square + c);
		full new_weight[width], new_first[width], new_second[width];
		for (int e = 0; e < width; e++) {
			const full g = with.factor * (full)slope[e];
			new_first[e] = with.beta1 * first[e] + with.rest1 * g;
			new_second[e] = with.beta2 * second[e] + with.rest2 * g * g;
			new_weight[e] = with.keep * weight[e]
					- with.size * (new_first[e] / (mp_sqrt(new_second[e]) / with.root + with.epsilon));
		}
		mp_store_weights<width>(w, c, new_weight);
		mp_store<width>(average + c, new_first, width);
		mp_store<width>(square + c, new_second, width);
	});
}

static __global__ void tmpl_adamw_kernel(char *arena, const int *__restrict__ table, long rows, long chunks, long chunk,
		const full *__restrict__ rate, const int *__restrict__ step, const full *__restrict__ scale, full beta1, full beta2,
		full rest1, full rest2, full log1, full log2, full epsilon, full decay)
{
	const full size = *rate / -expm1((full)*step * log1), root = mp_sqrt(-expm1((full)*step * log2));
	mp_each_part(table, rows, chunks, chunk, [&](const int *row, long first, long n) {
		const full keep = 1 - *rate * (row[MP_DECAYS] ? decay : 0);
		const tmpl_adamw_constants with = {scale ? *scale : 1, keep, size, root, beta1, beta2, rest1, rest2, epsilon};
		full *const average = mp_table_tensor<full>(arena, row, MP_FIRST_STATE, first), *const square = mp_table_tensor<full>(arena, row, MP_SECOND_STATE, first);
		mp_with_weights<real, full>(arena, row, first, [=](const auto &w) {
			mp_with_gradient<real, full>(arena, row, first, [=](const auto *gradient) { tmpl_adamw_part(w, average, square, gradient, n, with); });
		});
	});
}

// Every parameter w of the table, its average and square (first and second state), with g = *scale * gradient (scale is NULL
// without clipping), *rate and *step (from 1):
//   average = beta1 average + (1 - beta1) g, square = beta2 square + (1 - beta2) g^2
//   w = (1 - *rate * decay) w - *rate / (1 - beta1^step) average / (sqrt(square / (1 - beta2^step)) + epsilon)
// without decay where the table says so; its copy, where it has one, is the new w rounded (mp_halves.h). table: int[rows, MP_COLUMNS], with
// `chunks` chunks of `chunk` elements. The betas are double, because of what is subtracted from 1.
void tmpl_adamw(char *arena, const int *table, long rows, long chunks, long chunk, const full *rate, const int *step,
		const full *scale, double beta1, double beta2, full epsilon, full decay, cudaStream_t stream)
{
	MP_LAUNCH(tmpl_adamw_kernel, mp_row_blocks(chunks * MP_PARTS), MP_THREADS, stream, arena, table, rows, chunks, chunk, rate, step,
			scale, (full)beta1, (full)beta2, (full)(1 - beta1), (full)(1 - beta2), (full)log(beta1), (full)log(beta2), epsilon, decay);
}
