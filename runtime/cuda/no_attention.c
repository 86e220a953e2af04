// What mp_rank_open and mp_rank_close call in programs without attention.
#include "mp_run.h"

void mp_attention_prepare(struct mp_rank *r)
{
	r->attention_plans = NULL;
}

void mp_attention_release(struct mp_rank *r)
{
	(void)r;
}
