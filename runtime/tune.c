// tune.c: reading and writing the file of --tune. (tune.h)
#include "tune.h"

#include "mp_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[] = "mpgen tune 1";
static const char *const transposes[] = {[MP_NN] = "NN", [MP_NT] = "NT", [MP_TN] = "TN"};
static const char *const types[] = {[MP_F32] = "f32", [MP_F64] = "f64", [MP_I32] = "i32", [MP_BF16] = "bf16"};
static const char *const epilogues[] = {
	[MP_NO_EPILOGUE] = "NONE", [MP_BIAS] = "BIAS", [MP_RELU] = "RELU", [MP_BIAS_RELU] = "BIAS_RELU", [MP_GELU] = "GELU",
	[MP_BIAS_GELU] = "BIAS_GELU", [MP_GELU_AUX] = "GELU_AUX", [MP_BIAS_GELU_AUX] = "BIAS_GELU_AUX", [MP_GELU_GRAD] = "GELU_GRAD",
};
enum { TRANSPOSES = MP_TN + 1, TYPES = MP_BF16 + 1, EPILOGUES = MP_GELU_GRAD + 1 };

struct mp_tune_key mp_tune_key_of(const struct mp_gemm *g)
{
	return (struct mp_tune_key){g->m, g->n, g->k, g->transpose, g->epilogue, g->type, g->out, g->tf32, g->alignment};
}

bool mp_tune_same(const struct mp_tune_key *a, const struct mp_tune_key *b)
{
	return a->m == b->m && a->n == b->n && a->k == b->k && a->transpose == b->transpose && a->epilogue == b->epilogue
	    && a->type == b->type && a->out == b->out && a->tf32 == b->tf32 && a->alignment == b->alignment;
}

const struct mp_tune_row *mp_tune_find(const struct mp_tune_file *file, const struct mp_tune_key *key)
{
	for (int i = 0; i < file->count; i++)
		if (mp_tune_same(&file->rows[i].key, key))
			return &file->rows[i];
	return NULL;
}

// ---- Reading

char *mp_tune_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t used = 0, room = 1 << 16;

	if (!file && errno == ENOENT)
		return NULL;
	if (!file)
		mp_fail(MP_IO_FAILED, "cannot read %s: %s", path, strerror(errno));
	char *text = mp_allocate(room);
	for (size_t got; (got = fread(text + used, 1, room - used - 1, file)) > 0;) {
		used += got;
		if (room - used > 1)
			continue;
		char *larger = mp_allocate(2 * room);
		memcpy(larger, text, used);
		free(text);
		text = larger;
		room *= 2;
	}
	if (ferror(file))
		mp_fail(MP_IO_FAILED, "cannot read %s: %s", path, strerror(errno));
	fclose(file);
	if (strlen(text) != used)
		mp_fail(MP_BAD_INPUT, "%s is no text: it is not a file of --tune", path);
	return text;
}

// A line being read, word by word.
struct line {
	const char *path, *at;
	int number;
};

MP_NORETURN static void refuse(const struct line *l, const char *what, const char *word)
{
	int length = (int)strcspn(word, "\r\n");
	mp_fail(MP_BAD_INPUT, "%s:%d: %s, not \"%.*s\"; without the file it is made anew", l->path, l->number, what, length < 40 ? length : 40, word);
}

// The next word into word[size]: empty at the line's end.
static const char *next_word(struct line *l, char *word, size_t size)
{
	l->at += strspn(l->at, " \t\r");
	size_t length = strcspn(l->at, " \t\r\n");
	snprintf(word, size, "%.*s", (int)length, l->at);
	l->at += length;
	return word;
}

static int choice(struct line *l, const char *const *names, int count, const char *what)
{
	char word[32];
	next_word(l, word, sizeof word);
	for (int i = 0; i < count; i++)
		if (!strcmp(word, names[i]))
			return i;
	refuse(l, what, word);
}

static double number(struct line *l, double low, double high, const char *what)
{
	char word[32], *end;
	double value = strtod(next_word(l, word, sizeof word), &end);
	if (end == word || *end || !(value >= low && value <= high))
		refuse(l, what, word);
	return value;
}

static int whole(struct line *l, int low, const char *what)
{
	char word[32], *end;
	errno = 0;
	long value = strtol(next_word(l, word, sizeof word), &end, 10);
	if (errno || end == word || *end || value < low || value > INT32_MAX)
		refuse(l, what, word);
	return (int)value;
}

static void hexadecimal(struct line *l, unsigned char *bytes)
{
	char word[2 * MP_ALGORITHM_BYTES + 2];
	next_word(l, word, sizeof word);
	bool right = strlen(word) == 2 * MP_ALGORITHM_BYTES && strspn(word, "0123456789abcdef") == 2 * MP_ALGORITHM_BYTES;
	if (!right)
		refuse(l, "the algorithm has 128 digits of 0 to f", word);
	for (int i = 0; i < MP_ALGORITHM_BYTES; i++) {
		const char digits[] = {word[2 * i], word[2 * i + 1], '\0'};
		bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
}

// Takes the next word when it is this one.
static bool has_word(struct line *l, const char *wanted)
{
	const char *from = l->at;
	char word[32];
	if (!strcmp(next_word(l, word, sizeof word), wanted))
		return true;
	l->at = from;
	return false;
}

// The operands' type; "tf32" are products of f32.
static enum mp_type operand_type(struct line *l, bool *tf32)
{
	*tf32 = has_word(l, "tf32");
	if (*tf32)
		return MP_F32;
	return (enum mp_type)choice(l, types, TYPES, "the type of the operands is f32, tf32 or bf16");
}

static struct mp_tune_row parse_row(struct line *l)
{
	struct mp_tune_row row = {.workspace = 0};
	struct mp_tune_key *key = &row.key;
	char word[32];

	key->transpose = (enum mp_transpose)choice(l, transposes, TRANSPOSES, "a product begins with NN, NT or TN");
	key->m = whole(l, 1, "m is a whole number from 1");
	key->n = whole(l, 1, "n is a whole number from 1");
	key->k = whole(l, 1, "k is a whole number from 1");
	key->type = operand_type(l, &key->tf32);
	key->out = (enum mp_type)choice(l, types, TYPES, "the type of the result is f32 or bf16");
	key->epilogue = (enum mp_epilogue)choice(l, epilogues, EPILOGUES, "the epilogue is NONE, BIAS, RELU, GELU or one of their kin");
	key->alignment = whole(l, 1, "the alignment is a number of bytes");
	row.ms = number(l, 0, 1e9, "the time is a number of milliseconds");
	number(l, 0, 1e9, "the speed is a number of TFLOP/s");
	row.candidate = whole(l, 1, "the candidate is a whole number from 1");
	row.candidates = whole(l, row.candidate, "candidates are as many at least as the one chosen");
	row.first_ms = number(l, 0, 1e9, "the time of the first candidate is a number of milliseconds");
	row.workspace = (uint64_t)number(l, 0, 1e15, "the workspace is a number of bytes");
	hexadecimal(l, row.algorithm);
	if (*next_word(l, word, sizeof word))
		refuse(l, "a product ends with its algorithm", word);
	return row;
}

// What stands behind `name` in a line of the head.
static void parse_name(struct line *l, const char *name, char *value)
{
	size_t length = strlen(name);
	if (strncmp(l->at, name, length) || l->at[length] != ' ')
		refuse(l, strcmp(name, "library") ? "the third line is the device" : "the second line is the library", l->at);
	const char *from = l->at + length + 1;
	snprintf(value, MP_TUNE_NAME, "%.*s", (int)strcspn(from, "\r\n"), from);
}

static int count_lines(const char *text)
{
	int lines = 1;
	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

static void add_row(struct mp_tune_file *file, struct line *l)
{
	const char *from = l->at;
	struct mp_tune_row row = parse_row(l);
	if (mp_tune_find(file, &row.key))
		refuse(l, "each product has one line", from);
	file->rows[file->count++] = row;
}

struct mp_tune_file mp_tune_parse(const char *path, const char *text)
{
	struct mp_tune_file file = {.rows = mp_allocate((size_t)count_lines(text) * sizeof *file.rows)};
	struct line l = {path, text, 1};
	int head = 0;

	for (; *text; l.number++) {
		l.at = text + strspn(text, " \t\r");
		if (*l.at != '\n' && *l.at != '#' && *l.at) {
			if (head == 0 && strncmp(l.at, magic, strlen(magic)))
				refuse(&l, "a file of --tune begins with \"mpgen tune 1\"", l.at);
			if (head == 1 || head == 2)
				parse_name(&l, head == 1 ? "library" : "device", head == 1 ? file.library : file.device);
			if (head > 2)
				add_row(&file, &l);
			head++;
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	if (head < 3)
		mp_fail(MP_BAD_INPUT, "%s:%d: the file ends before it says its library and device; without the file it is made anew", path, l.number);
	return file;
}

// ---- Writing

static void write_row(FILE *out, const struct mp_tune_row *row)
{
	const struct mp_tune_key *k = &row->key;
	double flops = 2.0 * k->m * k->n * k->k;
	fprintf(out, "%s %d %d %d %s %s %s %d  %.4f %.1f  %d %d %.4f  %llu ", transposes[k->transpose], k->m, k->n, k->k,
	        k->tf32 ? "tf32" : types[k->type], types[k->out], epilogues[k->epilogue], k->alignment, row->ms,
	        row->ms > 0 ? flops / row->ms * 1e-9 : 0, row->candidate, row->candidates, row->first_ms, (unsigned long long)row->workspace);
	for (int i = 0; i < MP_ALGORITHM_BYTES; i++)
		fprintf(out, "%02x", row->algorithm[i]);
	fprintf(out, "\n");
}

void mp_tune_write(const char *path, const struct mp_tune_file *file)
{
	size_t size = strlen(path) + sizeof ".part";
	char *part = mp_allocate(size);
	snprintf(part, size, "%s.part", path);
	FILE *out = fopen(part, "w");
	if (!out)
		mp_fail(MP_IO_FAILED, "cannot write %s: %s", part, strerror(errno));
	fprintf(out, "%s\nlibrary %s\ndevice %s\n", magic, file->library, file->device);
	fprintf(out, "# transpose m n k operands result epilogue alignment  ms TFLOP/s  candidate of ms_of_the_first  workspace algorithm\n");
	for (int i = 0; i < file->count; i++)
		write_row(out, &file->rows[i]);
	bool failed = ferror(out);
	if (fclose(out) || failed || rename(part, path))
		mp_fail(MP_IO_FAILED, "cannot write %s: %s", path, strerror(errno));
	free(part);
}
