// cases.h: every case of the templates for one type; included in a namespace that holds them, with `real`.
#include "cases_rows.h"
#include "cases_copies.h"
#include "cases_images.h"
#include "cases_optimizer.h"
#include "cases_squares.h"
#include "cases_updates.h"
#include "cases_statistics.h"
#include "cases_dropout.h"
#include "cases_tokens.h"
#include "cases_blocks.h"

static void test_type(const char *type)
{
	static char names[40][40];
	int count = 0;
	auto start = [&](const char *what) {
		snprintf(names[count], sizeof names[count], "%s %s", type, what);
		start_group(names[count++]);
	};
	start("sum");
	test_sum();
	test_column_sums();
	start("softmax");
	test_softmax();
	start("losses");
	test_losses();
	start("pieces");
	test_pieces();
	start("clear_padding");
	test_clear_padding();
	start("keep, accumulate");
	test_flat();
	start("copies");
	test_copies();
	start("sgd");
	test_sgd();
	start("adamw");
	test_adamw();
	start("norms of gradients");
	test_squares();
	test_norms();
	start("elementwise");
	test_elementwise();
	start("pools");
	test_pools();
	start("adaptive pools");
	test_adaptive_pools();
	start("permute");
	test_permute();
	start("statistics");
	test_statistics();
	start("merged statistics");
	test_merge();
	start("running statistics");
	test_running();
	start("normalize sums behind ReLU");
	test_normalize_relu_sums();
	start("normalize sums");
	test_normalize_sums();
	start("normalize sums of repeated rows");
	test_repeated_sums();
	start("normalize and ReLU, summed");
	test_normalize_relu_partials();
	start("dropout");
	test_dropout();
	start("transpose");
	test_transpose();
	start("embedding");
	test_embedding();
#ifdef __CUDACC__
	start("block sizes");
	test_block_sizes();
	start("block sizes of images");
	test_image_blocks();
#endif
	start_group(NULL);
}
