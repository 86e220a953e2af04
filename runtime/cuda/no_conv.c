// What mp_rank_open and mp_rank_close call in programs without convolutions, which need no cuDNN (conv.c).
#include "mp_run.h"

void mp_conv_prepare(struct mp_rank *r)
{
	r->conv_plans = NULL;
}

void mp_conv_release(struct mp_rank *r)
{
	(void)r;
}
