// engines.c: the CPU's stand-in for GPUs has no copy engines; NCCL's stand-in does all.
#include "../engines.h"

struct mp_engines *mp_engines_open(struct mp_rank *r, enum mp_axis axis)
{
	(void)r, (void)axis;
	return NULL;
}

void mp_engines_close(struct mp_engines *e)
{
	(void)e;
}

void mp_engines_begin(struct mp_engines *e)
{
	(void)e;
}

void mp_engines_all_reduce(struct mp_engines *e, char *data, size_t bytes, enum mp_type type)
{
	(void)e, (void)data, (void)bytes, (void)type;
}

void mp_engines_reduce_scatter(struct mp_engines *e, const char *from, char *to, size_t bytes, enum mp_type type)
{
	(void)e, (void)from, (void)to, (void)bytes, (void)type;
}

void mp_engines_all_gather(struct mp_engines *e, const char *from, char *to, size_t bytes, bool own)
{
	(void)e, (void)from, (void)to, (void)bytes, (void)own;
}

void mp_engines_messages(struct mp_engines *e, const struct mp_message *messages, int count)
{
	(void)e, (void)messages, (void)count;
}

void mp_engines_shift(struct mp_engines *e, const char *from, char *to, size_t bytes, int by)
{
	(void)e, (void)from, (void)to, (void)bytes, (void)by;
}
