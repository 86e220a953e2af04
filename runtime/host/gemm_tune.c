// gemm_tune.c: --tune on the host, where products of one shape take one path: a file is checked, and nothing is timed.
#include "../mp_run.h"
#include "../tune.h"

#include <stdio.h>
#include <stdlib.h>

void mp_gemm_tune(struct mp_rank *r)
{
	if (r->rank != 0)
		return;
	char *text = mp_tune_read(r->options->tune);
	if (text)
		free(mp_tune_parse(r->options->tune, text).rows);
	free(text);
	printf("tune: the host build has one algorithm for each matrix product, so there is nothing to tune\n");
}
