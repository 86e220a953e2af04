// engines.h: collectives over an axis whose ranks are GPUs of one host, by copy engines (cuda/engines.c; host/engines.c has none).
#ifndef MP_ENGINES_H
#define MP_ENGINES_H

#include "mp_run.h"

// What lies first in the bytes that a program keeps for an axis' exchange, flags that ranks set in each other's memory; behind it is
// what comes in to be added up.
enum { MP_EXCHANGE_FLAGS = 16384, MP_EXCHANGE_RANKS = 16 };

// How the ranks of the axis reach each other; NULL where not all of them do, which all agree on. Called by all of them, with
// communicators made and a fresh arena.
struct mp_engines *mp_engines_open(struct mp_rank *r, enum mp_axis axis);
void mp_engines_close(struct mp_engines *e);

// Before the actions of a step are enqueued, on all ranks. e may be NULL.
void mp_engines_begin(struct mp_engines *e);

// The collectives of mp.h, by byte counts, on the axis' stream. `bytes` are those of one rank's part; all_reduce: of the whole.
void mp_engines_all_reduce(struct mp_engines *e, char *data, size_t bytes, enum mp_type type);
void mp_engines_reduce_scatter(struct mp_engines *e, const char *from, char *to, size_t bytes, enum mp_type type);
void mp_engines_all_gather(struct mp_engines *e, const char *from, char *to, size_t bytes, bool own);
void mp_engines_messages(struct mp_engines *e, const struct mp_message *messages, int count);
void mp_engines_shift(struct mp_engines *e, const char *from, char *to, size_t bytes, int by);

#endif
