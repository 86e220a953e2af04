// cases_blocks.h: kernels over images are right for any block of a multiple of 32 threads and any grid, not only for
// what their launchers choose; on a GPU. Included in a namespace that holds the templates for one type, `real`.
#ifdef __CUDACC__

// 24 channels: 6 or 12 wide strips, which divide no block.
static void test_pool_blocks(int block, int grid)
{
	const long n = 2, h = 9, w = 7, c = 24, p = 5, q = 4;
	Buffer<real> x(n * h * w * c), y(n * p * q * c), dx(x.count), z(x.count);
	Buffer<int> at(y.count);
	fill_random(x, 1);
	tmpl_max_pool(y.at(), at.at(), x.at(), n, h, w, c, p, q, 3, 3, 2, 2, 1, 1, 1, 1, 0);
	tmpl_max_pool_grad(dx.at(), y.at(), at.at(), n, h, w, c, p, q, 3, 3, 2, 2, 1, 1, 1, 1, 0);
	const std::vector<double> largest = values(y), slope = values(dx);
	const mp_window down = {3, 2, 1, 1, (int)h, (int)p}, across = {3, 2, 1, 1, (int)w, (int)q};
	for (bool wide : {false, true})
		for (int lanes : {1, 6, 24}) {
			MP_LAUNCH(tmpl_max_pool_kernel, grid, block, 0, y.at(), at.at(), x.at(), n, c, down, across, lanes, wide);
			expect(y, largest, 0, 0, shape_text(block, grid, lanes, wide));
			MP_LAUNCH(tmpl_max_pool_grad_kernel, grid, block, 0, dx.at(), y.at(), at.at(), n, c, down, across, lanes, wide);
			expect(dx, slope, 0, 0, shape_text(block, grid, lanes, wide));
		}
	tmpl_permute(z.at(), x.at(), n, h * w, c, 0);
	const std::vector<double> permuted = values(z);
	MP_LAUNCH(tmpl_permute_kernel, grid, block, 0, z.at(), x.at(), n, h * w, c);
	expect(z, permuted, 0, 0, shape_text(block, grid));
	MP_LAUNCH(tmpl_permute_narrow_kernel, grid, block, 0, z.at(), x.at(), n, h * w, c);
	expect(z, permuted, 0, 0, shape_text(block, grid));
}

static void test_sum_blocks(int block, int grid, long channels)
{
	const long groups = 2, chunks = 3, rows = 500;
	Buffer<real> x(groups * rows * channels), mean(groups * channels), rstd(mean.count), variance(mean.count);
	Buffer<real> partial_mean(groups * chunks * channels), deviations(partial_mean.count);
	fill_random(x, 1);
	tmpl_channel_partials(partial_mean.at(), deviations.at(), x.at(), groups, chunks, rows, channels, 0);
	const std::vector<double> want_mean = values(partial_mean), want_deviations = values(deviations);
	MP_LAUNCH(tmpl_channel_partials_kernel, grid, block, 0, partial_mean.at(), deviations.at(), x.at(), groups, chunks, rows, channels);
	expect(partial_mean, want_mean, 20, 1, shape_text(block, grid, channels));
	expect(deviations, want_deviations, 40, 1, shape_text(block, grid, channels));
	tmpl_channel_statistics(mean.at(), variance.at(), rstd.at(), partial_mean.at(), deviations.at(), NULL, NULL, groups,
	                        chunks, rows, channels, 1, false, 0);
	const std::vector<double> want_whole = values(mean), want_variance = values(variance);
	MP_LAUNCH(tmpl_channel_statistics_kernel, grid, block, 0, mean.at(), variance.at(), rstd.at(), partial_mean.at(), deviations.at(),
	                                                groups, chunks, rows, channels, 1);
	expect(mean, want_whole, 20, 1, shape_text(block, grid, channels));
	expect(variance, want_variance, 20, 1, shape_text(block, grid, channels));
	tmpl_normalize_sums(partial_mean.at(), deviations.at(), x.at(), x.at(), mean.at(), rstd.at(), groups, chunks, rows,
	                    channels, 1, 0);
	const std::vector<double> want_sums = values(partial_mean), want_products = values(deviations);
	MP_LAUNCH(tmpl_normalize_sums_kernel, grid, block, 0, partial_mean.at(), deviations.at(), x.at(), x.at(), mean.at(), rstd.at(), groups,
	                                            chunks, rows, channels, 1);
	expect(partial_mean, want_sums, 20, 20, shape_text(block, grid, channels));
	expect(deviations, want_products, 40, 20, shape_text(block, grid, channels));
}

static void test_image_blocks()
{
	for (int block : {32, 64, 96, 160, 256, 992, 1024})
		for (int grid : {1, 3, 200}) {
			test_pool_blocks(block, grid);
			for (long channels : {1, 10, 33, 96})
				test_sum_blocks(block, grid, channels);
		}
}
#endif
