// ---- update: from templates/sgd.cu

// moving: there is a velocity.
template <bool moving, class Weights, class element> MP_DEVICE void update_part(const Weights &w, double *__restrict__ velocity,
		const element *__restrict__ gradient, long n, double factor, double step, double momentum, double decay)
{
	mp_change_part<MP_STRIP(double)>(n, [=](auto strip, long c) {
		constexpr int width = strip;
		const auto slope = mp_load<width>(gradient + c);
		const auto weight = mp_load_weights<width>(w, c);
		double new_weight[width], change[width];
		for (int e = 0; e < width; e++)
			change[e] = factor * (double)slope[e] + decay * weight[e];
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

static __global__ void update_kernel(char *arena, const int *__restrict__ table, long rows, long chunks, long chunk,
		const double *__restrict__ rate, const double *__restrict__ scale, double momentum, double decay)
{
	mp_each_part(table, rows, chunks, chunk, [&](const int *row, long first, long n) {
		double *const velocity = mp_table_tensor<double>(arena, row, MP_FIRST_STATE, first);
		const double factor = scale ? *scale : 1, own = row[MP_DECAYS] ? decay : 0;
		mp_with_weights<double, double>(arena, row, first, [=](const auto &w) {
			mp_with_gradient<double, double>(arena, row, first, [=](const auto *gradient) {
				if (velocity)
					update_part<true>(w, velocity, gradient, n, factor, *rate, momentum, own);
				else
					update_part<false>(w, velocity, gradient, n, factor, *rate, momentum, own);
			});
		});
	});
}

// Every parameter w of the table -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new
// velocity, its first state. Without momentum there is none, without clipping scale is NULL; decay is none where the table says
// so; the copy of w, where it has one, is the new w rounded (mp_halves.h). table: int[rows, MP_COLUMNS], with `chunks` chunks of `chunk` elements.
void update(char *arena, const int *table, long rows, long chunks, long chunk, const double *rate, const double *scale,
		double momentum, double decay, cudaStream_t stream)
{
	MP_LAUNCH(update_kernel, mp_row_blocks(chunks * MP_PARTS), MP_THREADS, stream, arena, table, rows, chunks, chunk, rate, scale,
			momentum, decay);
}
