// dx: float[rows, cols] = the gradient of x: float[rows, cols] from dy: float[rows, cols]
// weight_sums, bias_sums: float[chunks, cols] = the sums over a chunk's rows of dy * (x - mean) * rstd and of dy; chunk j has the
// rows [rows * j / chunks, rows * (j + 1) / chunks); mean, rstd: float[rows] of layer_norm; w: float[cols]
// dx_sums: float[chunks, cols] = the same sums of dx; NULL: not wanted
// With t0 for what is dx above, dx = add(x0, t0); x0 and so on have its shape
void layer_norm_grad_add(float *dx, float *weight_sums, float *bias_sums, float *dx_sums, const float *dy,
		const float *x, const float *mean, const float *rstd, const float *w, const float *x0, long rows,
		long cols, long chunks, cudaStream_t stream);
