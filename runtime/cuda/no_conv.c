// no_conv.c: takes the place of conv.c in programs without convolutions, which so need no cuDNN.
#include "mp_run.h"

void mp_conv_prepare(struct mp_rank *r)
{
	(void)r;
}

void mp_conv_release(struct mp_rank *r)
{
	(void)r;
}
