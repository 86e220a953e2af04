// y: float[rows, cols] = (x - mean) * rstd * w + b; mean: float[rows] of each row, rstd: float[rows] = 1 / sqrt(its variance + eps)
// x: float[rows, cols]; w, b: float[cols], b NULL: no bias
// x is made here: add(x0, x1)
void add_layer_norm(float *y, float *mean, float *rstd, float *x, const float *x0, const float *x1, const float *w,
		const float *b, long rows, long cols, float eps, cudaStream_t stream);
