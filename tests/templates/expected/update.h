// Every parameter w of the table -= *rate * v, where v = momentum * velocity + (*scale * gradient + decay * w) becomes the new
// velocity, its first state. Without momentum there is none, without clipping scale is NULL; decay is none where the table says
// so; the copy of w, where it has one, is the new w rounded (mp_halves.h). table: int[rows, MP_COLUMNS], with `chunks` chunks of `chunk` elements.
void update(char *arena, const int *table, long rows, long chunks, long chunk, const double *rate, const double *scale,
		double momentum, double decay, cudaStream_t stream);
