// synthetic_tokens.c: token data from a seed, for runs without files.
//
// As synthetic.c's, they must be learnable, and not from the token before alone, or a broken attention looks like a
// working one: the stream is made of words, drawn at random and written one after another, whose letters are random
// ids. Inside a word the next letter follows from those before it; between words only the word's frequency is known, so
// that the loss ends near ln(WORDS) / mean length = 0.8. Letters are spread over the vocabulary, so that every shard
// of an embedding table has some. Training and evaluation share the words, not the stream.
#include "data.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>

enum { LETTERS = 32, WORDS = 64, SHORTEST = 2, LONGEST = 8, TRAINING_IDS = 1 << 18, EVALUATION_IDS = 1 << 14, LEAST_BATCHES = 4 };

static uint64_t key_of(uint64_t seed, const char *what)
{
	char *text = mp_text("synthetic.tokens.%s", what);
	uint64_t key = mp_random_key(seed, text);
	free(text);
	return key;
}

struct word {
	int length;
	int32_t letter[LONGEST];
};

static void draw_words(struct word words[WORDS], uint64_t key, long vocabulary)
{
	uint32_t letters = vocabulary < LETTERS ? (uint32_t)vocabulary : LETTERS, x[4];
	for (uint64_t w = 0; w < WORDS; w++) {
		mp_random_block(key, 0, w, x);
		words[w].length = SHORTEST + (int)(x[0] % (LONGEST - SHORTEST + 1));
		for (int i = 0; i < LONGEST; i++) {
			mp_random_block(key, (uint64_t)i + 1, w, x);
			words[w].letter[i] = (int32_t)(x[0] % letters * (unsigned long)vocabulary / letters);
		}
	}
}

void mp_synthetic_tokens_open(struct mp_dataset *d, uint64_t seed, bool evaluation)
{
	const struct mp_model *m = d->model;
	struct word words[WORDS];
	uint64_t key = key_of(seed, evaluation ? "evaluation" : "training");
	long count = evaluation ? EVALUATION_IDS : TRAINING_IDS;
	long batches = LEAST_BATCHES * (long)m->batch * mp_input_elements(&m->inputs[0]) + 1;
	count = count > batches ? count : batches;
	draw_words(words, key_of(seed, "words"), m->vocabulary);
	int32_t *ids = mp_allocate((size_t)(count + LONGEST) * sizeof *ids);
	uint32_t x[4];
	for (long i = 0, n = 0; i < count; n++) {
		mp_random_block(key, 0, (uint64_t)n, x);
		const struct word *word = &words[x[0] % WORDS];
		memcpy(ids + i, word->letter, (size_t)word->length * sizeof *ids);
		i += word->length;
	}
	mp_tokens_take(d, (struct mp_tokens){.path = mp_text("synthetic"), .ids = ids, .bytes = 4, .count = count},
	               evaluation || !m->training);
}
