// mp_kept.h: which weights of attention are kept by dropout: for the host and for kernels, which draw the same bits.
//
// A weight belongs to a row: a query of one head of one sample of the whole batch. The rows of all samples and heads are numbered
// one behind the other, so a row keeps its number wherever it is computed. One random number of 128 bits decides about 8 keys.
#ifndef MP_KEPT_H
#define MP_KEPT_H

#include "mp.h"
#include "mp_philox.h"

enum { MP_KEPT_KEYS = 8 };              // of one random number: 16 bits for each

struct mp_kept {
	const int *key;                 // as of struct mp_dropped
	unsigned layer;
	uint64_t sample, head, heads, tokens;
	int groups, queries;            // of this device
	uint32_t threshold;             // what is kept has bits that are at least this
};

static inline struct mp_kept mp_kept_of(const struct mp_attention *a, const struct mp_dropped *dropped)
{
	double threshold = a->dropout * 65536;
	struct mp_kept kept = {dropped->key, dropped->layer, (uint64_t)dropped->sample, (uint64_t)dropped->head, (uint64_t)a->heads,
	                       (uint64_t)a->tokens, a->groups, a->queries, (uint32_t)threshold};
	kept.threshold += kept.threshold < threshold;
	return kept;
}

// The random number that decides about the first 8 keys of a query; the following ones are those of the next keys. A unit is a
// sample and a group, `head` one of its query heads.
MP_DEVICE uint64_t mp_kept_number(const struct mp_kept *kept, int unit, int head, int query)
{
	uint64_t sample = kept->sample + unit / kept->groups;
	uint64_t row = (sample * kept->heads + kept->head + unit % kept->groups * kept->queries + head) * kept->tokens + query;
	return row * ((kept->tokens + MP_KEPT_KEYS - 1) / MP_KEPT_KEYS);
}

// word[0..3][j] of random number `first` + j: bits 16 * (k % 2) and following of word k / 2 decide about key k of its 8.
MP_DEVICE void mp_kept_words(uint32_t word[4][MP_PHILOX_STRIP], const struct mp_kept *kept, uint64_t first, int n)
{
	const uint32_t key[4] = {(uint32_t)kept->key[0] ^ kept->layer, (uint32_t)kept->key[1], (uint32_t)kept->key[2], (uint32_t)kept->key[3]};
	mp_philox_numbers(word, first, key, n);
}

// Whether key k of those of random number j is kept.
MP_DEVICE bool mp_is_kept(const struct mp_kept *kept, uint32_t word[4][MP_PHILOX_STRIP], int j, int k)
{
	return (word[k / 2][j] >> (16 * (k % 2)) & 0xffff) >= kept->threshold;
}

#endif
