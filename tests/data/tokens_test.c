// tokens_test.c: every format of token data, what is refused, and which windows a step holds.
#include "test.h"

#include <sys/stat.h>

enum { CONTEXT = 4, BATCH = 6, IDS = 43 };

static const struct mp_input inputs[] = {{"labels", MP_I32, 1, {CONTEXT}, 300}, {"tokens", MP_I32, 1, {CONTEXT}, 0}};
static const struct mp_program first = {.name = "first", .inputs = inputs + 1, .input_count = 1};
static const struct mp_program last = {.name = "last", .inputs = inputs, .input_count = 1};
static const struct mp_program both = {.name = "both", .inputs = inputs, .input_count = 2};
static const struct mp_program *program_of_one(int stage) { return (void)stage, &both; }
static const struct mp_program *program_of_two(int stage) { return stage ? &last : &first; }

static struct mp_model model_of(long vocabulary, bool training)
{
	return (struct mp_model){.name = "test", .training = training, .axis = {1, 1, 1}, .batch = BATCH, .microbatches = 1,
		.data = MP_DATA_TOKENS, .vocabulary = vocabulary, .inputs = inputs, .input_count = 2, .program = program_of_one};
}

// ---------------------------------------------------------------------------------------------------------
// Files: the ids 0, 7, 14, … modulo 256

static long id(long i) { return i * 7 % 256; }

// `count` ids of `bytes` each behind a header; the file's path.
static const char *make(const char *name, const void *header, size_t header_bytes, int bytes, long count)
{
	char text[4096] = {0};
	if (header_bytes)
		memcpy(text, header, header_bytes);
	for (long i = 0; i < count; i++) {
		uint32_t value = (uint32_t)id(i);
		memcpy(text + header_bytes + i * bytes, &value, (size_t)bytes);
	}
	write_file(at(name), text, header_bytes + (size_t)(count * bytes));
	return at(name);
}

static const char *make_llmc(const char *name, int32_t magic, int32_t version, int32_t promised, long count)
{
	int32_t header[256] = {magic, version, promised};
	return make(name, header, sizeof header, magic == 20240801 ? 4 : 2, count);
}

struct megatron {
	const char *magic;
	uint64_t version;
	int type, bytes;
	long lengths[3];                // documents 0 … 2
	long gap;                       // bytes before document 2
	long missing;                   // at the end of .idx
};

// tm.idx and tm.bin, of 43 ids.
static void make_megatron(const struct megatron *m)
{
	char text[200] = {0}, *out = text + 34;
	uint64_t sequences = 3, documents = 4, offset = 0;
	memcpy(text, m->magic, 9);
	memcpy(text + 9, &m->version, 8);
	text[17] = (char)m->type;
	memcpy(text + 18, &sequences, 8);
	memcpy(text + 26, &documents, 8);
	for (int i = 0; i < 3; i++, out += 4)
		memcpy(out, &(int32_t){(int32_t)m->lengths[i]}, 4);
	for (int i = 0; i < 3; i++, out += 8) {
		offset += (uint64_t)(i == 2 ? m->gap : 0);
		memcpy(out, &offset, 8);
		offset += (uint64_t)(m->lengths[i] * m->bytes);
	}
	for (uint64_t i = 0; i < documents; i++, out += 8)
		memcpy(out, &i, 8);
	write_file(at("tm.idx"), text, (size_t)(out - text - m->missing));
	make("tm.bin", NULL, 0, m->bytes, IDS);
}

static bool holds(const char *path, long vocabulary, long count)
{
	struct mp_model m = model_of(vocabulary, true);
	struct mp_dataset *d = mp_dataset_open(&m, path, false);
	int32_t ids[IDS] = {0};
	bool good = mp_dataset_ids(d, NULL) == count && mp_dataset_ids(d, ids) == count && mp_dataset_samples(d) == (count - 1) / CONTEXT;
	for (long i = 0; i < count; i++)
		good &= ids[i] == id(i);
	mp_dataset_close(d);
	return good;
}

static void formats(void)
{
	static const struct megatron types[] = {
		{"MMIDIDX\0", 1, 1, 1, {20, 3, 20}, 0, 0}, {"MMIDIDX\0", 1, 8, 2, {43, 0, 0}, 0, 0}, {"MMIDIDX\0", 1, 4, 4, {1, 41, 1}, 0, 0},
	};
	CHECK(holds(make("text.txt", NULL, 0, 1, IDS), 256, IDS));
	CHECK(holds(make("nanogpt.bin", NULL, 0, 2, IDS), 300, IDS));
	CHECK(holds(make_llmc("llmc.bin", 20240520, 1, IDS, IDS), 300, IDS));
	CHECK(holds(make_llmc("llmc4.bin", 20240801, 7, IDS, IDS), 70000, IDS));
	for (int i = 0; i < 3; i++) {
		make_megatron(&types[i]);
		CHECK(holds(at("tm.bin"), 300, IDS) && holds(at("tm.idx"), 300, IDS) && holds(at("tm"), 300, IDS));
	}
	mkdir(at("folder"), 0777);
	make("folder/train.bin", NULL, 0, 2, IDS);
	make("folder/val.bin", NULL, 0, 2, IDS - 2);
	CHECK(holds(at("folder"), 300, IDS));
	struct mp_model m = model_of(300, true);
	struct mp_dataset *d = mp_dataset_open(&m, at("folder"), true);
	CHECK(mp_dataset_ids(d, NULL) == IDS - 2);
	mp_dataset_close(d);
}

#define REFUSED(part, path, vocabulary) do { \
	struct mp_model m_ = model_of(vocabulary, true); \
	REFUSES(MP_BAD_INPUT, part, mp_dataset_open(&m_, path, false)); } while (0)

static void wrong_megatron(void)
{
	static const struct { const char *part; struct megatron file; } cases[] = {
		{"does not begin with MMIDIDX", {"MMAPIDX\0", 1, 8, 2, {20, 3, 20}, 0, 0}},
		{"tm.idx has version 2", {"MMIDIDX\0", 2, 8, 2, {20, 3, 20}, 0, 0}},
		{"its ids have type 7", {"MMIDIDX\0", 1, 7, 2, {20, 3, 20}, 0, 0}},
		{"tm.idx is truncated: it has 101 bytes", {"MMIDIDX\0", 1, 8, 2, {20, 3, 20}, 0, 1}},
		{"tm.idx is not an index", {"MMIDIDX\0", 1, 8, 2, {20, 3, 20}, 0, 70}},
		{"tm.bin is truncated: it has 86 bytes", {"MMIDIDX\0", 1, 8, 2, {20, 3, 21}, 0, 0}},
		{"document 2 does not lie behind", {"MMIDIDX\0", 1, 8, 2, {20, 3, 20}, 2, 0}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		make_megatron(&cases[i].file);
		REFUSED(cases[i].part, at("tm.bin"), 300);
	}
	unlink(at("tm.bin"));
	REFUSED("cannot open", at("tm.idx"), 300);
	unlink(at("tm.idx"));
}

static void mistakes(void)
{
	REFUSED("bytes.bin has 43 bytes, which is no whole number of 16-bit ids", make("bytes.bin", NULL, 0, 1, IDS), 300);
	REFUSED("version 2 of llm.c's format; with its magic number version 1", make_llmc("l.bin", 20240520, 2, IDS, IDS), 300);
	REFUSED("version 1 of llm.c's format; with its magic number version 7", make_llmc("l.bin", 20240801, 1, IDS, IDS), 300);
	REFUSED("l.bin is truncated: it has 1110 bytes, its header promises 44", make_llmc("l.bin", 20240520, 1, 44, IDS), 300);
	REFUSED("l.bin is too long", make_llmc("l.bin", 20240520, 1, 42, IDS), 300);
	make_llmc("l.bin", 20240520, 1, IDS, IDS);
	CHECK(!truncate(at("l.bin"), 500));
	REFUSED("its header alone 1024", at("l.bin"), 300);
	REFUSED("t.bin: token 36 is 252, but the spec's vocabulary is 251", make("t.bin", NULL, 0, 2, IDS), 251);
	REFUSED("a vocabulary of 256, but the spec's is 257", make("t.txt", NULL, 0, 1, IDS), 257);
	REFUSED("t.txt is empty", make("t.txt", NULL, 0, 1, 0), 256);
	REFUSED("t.txt holds 4 tokens, but a sample, with its labels, takes 5", make("t.txt", NULL, 0, 1, 4), 256);
	REFUSED("is compressed", make("t.gz", "\x1F\x8B\x08", 3, 1, IDS), 256);
	REFUSED("cannot open", at("nowhere.bin"), 256);
	struct mp_model inference = model_of(256, false);
	struct mp_rank r = {.model = &inference, .program = &both};
	REFUSES(MP_BAD_INPUT, "t.txt holds 0 samples, but a batch has 6", mp_loader_new(&r, mp_dataset_open(&inference,
	        make("t.txt", NULL, 0, 1, 1), false), MP_FILE_ORDER, 0, true));
	REFUSED("folder-2/train.bin", (mkdir(at("folder-2"), 0777), at("folder-2")), 256);
	wrong_megatron();
}

static void splits(void)
{
	for (int training = 0; training < 2; training++) {
		struct mp_model m = model_of(256, training);
		struct mp_dataset *d = mp_dataset_open(&m, make("text.txt", NULL, 0, 1, IDS), !training);
		int32_t ids[IDS];
		mp_dataset_split(d, 0.7);       // 30 ids, 13 ids
		CHECK(mp_dataset_ids(d, ids) == (training ? 30 : 13) && ids[0] == (training ? 0 : id(30)));
		CHECK(mp_dataset_samples(d) == (training ? 7 : 3));
		if (training)
			REFUSES(MP_BAD_INPUT, "text.txt holds 3 tokens before the split", mp_dataset_split(d, 0.1));
		mp_dataset_close(d);
	}
}

// A safetensors file serves as well: its ids have the vocabulary's limit, its labels may be ignored.
static void tensors(void)
{
	static const char header[] = "{\"labels\":{\"dtype\":\"I32\",\"shape\":[1,4],\"data_offsets\":[0,16]},"
		"\"tokens\":{\"dtype\":\"I32\",\"shape\":[1,4],\"data_offsets\":[16,32]}}";
	for (int bad = 0; bad < 3; bad++) {
		char text[sizeof header - 1 + 40];
		int32_t values[] = {-1, 0, 2, 299, 0, 5, bad == 1 ? -1 : bad ? 300 : 299, 4};
		memcpy(text, &(uint64_t){sizeof header - 1}, 8);
		memcpy(text + 8, header, sizeof header - 1);
		memcpy(text + 8 + sizeof header - 1, values, sizeof values);
		write_file(at("ids.safetensors"), text, sizeof text);
		struct mp_model m = model_of(300, true);
		if (bad)
			REFUSES(MP_BAD_INPUT, "but the spec allows 0 to 299", mp_dataset_close(mp_dataset_open(&m, at("ids.safetensors"), false)));
		else
			mp_dataset_close(mp_dataset_open(&m, at("ids.safetensors"), false));
	}
}

// ---------------------------------------------------------------------------------------------------------
// Windows

struct record {
	struct mp_dataset *d;
	enum mp_order order;
	bool keep_tail;
	long steps, from;
	int32_t tokens[8][BATCH][CONTEXT], labels[8][BATCH][CONTEXT];
	long real[8];
};

static void read_steps(struct mp_rank *r, void *context)
{
	struct record *rec = context;
	const struct mp_model *m = r->model;
	struct mp_loader *l = mp_loader_new(r, rec->d, rec->order, 7, rec->keep_tail);
	int logical = m->batch / m->microbatches, local = logical / m->axis[MP_DP];
	for (long s = 0; s < rec->steps; s++) {
		long real = mp_loader_next(l, rec->from + s);
		for (int k = 0; k < m->batch / m->axis[MP_DP] && r->tp == 0; k++) {
			int sample = k / local * logical + r->dp * local + k % local;
			for (int i = 0; i < r->program->input_count; i++)
				memcpy(r->program->inputs[i].name[0] == 't' ? rec->tokens[s][sample] : rec->labels[s][sample],
				       (int32_t *)r->input[i] + k * CONTEXT, CONTEXT * sizeof(int32_t));
		}
		if (r->rank == 0)
			rec->real[s] = real;
	}
	mp_loader_free(l);
}

static void read_mesh(struct record *rec, int dp, int tp, int pp, int microbatches, bool training)
{
	struct mp_model m = model_of(256, training);
	m.axis[MP_DP] = dp, m.axis[MP_TP] = tp, m.axis[MP_PP] = pp, m.microbatches = microbatches;
	m.program = pp == 1 ? program_of_one : program_of_two;
	rec->d = mp_dataset_open(&m, at("text.txt"), false);
	memset(rec->tokens, 0x55, sizeof rec->tokens);
	memset(rec->labels, 0x55, sizeof rec->labels);
	run_ranks(&m, read_steps, rec);
	mp_dataset_close(rec->d);
}

// The place of a whole window in text.txt; -1: it is none.
static long place_of(const struct record *rec, long step, int sample)
{
	for (long place = 0; place + CONTEXT < IDS; place++) {
		bool here = true;
		for (int i = 0; i < CONTEXT; i++)
			here &= rec->tokens[step][sample][i] == id(place + i) && rec->labels[step][sample][i] == id(place + i + 1);
		if (here)
			return place;
	}
	return -1;
}

// 42 predictions: 11 windows, the last of 2; then padding to 12 samples.
static void file_order(void)
{
	struct record rec = {.order = MP_FILE_ORDER, .keep_tail = true, .steps = 2};
	read_mesh(&rec, 1, 1, 1, 1, false);
	CHECK(rec.real[0] == 6 && rec.real[1] == 5);
	for (int k = 0; k < 12; k++)
		for (int i = 0; i < CONTEXT; i++) {
			long place = k * CONTEXT + i;
			CHECK(rec.tokens[k / 6][k % 6][i] == (place < IDS && k < 11 ? id(place) : 0));
			CHECK(rec.labels[k / 6][k % 6][i] == (place + 1 < IDS ? id(place + 1) : -1));
		}
	rec = (struct record){.order = MP_FILE_ORDER, .steps = 2};
	read_mesh(&rec, 1, 1, 1, 1, true);
	for (int k = 0; k < 12; k++)            // 10 whole windows: the second batch is the first again
		CHECK(place_of(&rec, k / 6, k % 6) == k % 6 * CONTEXT);
}

static void shuffled(void)
{
	struct record rec = {.order = MP_SHUFFLED, .steps = 8};
	read_mesh(&rec, 1, 1, 1, 1, true);
	for (int s = 0; s < 8; s++) {           // each is an epoch
		int seen[IDS] = {0};
		for (int k = 0; k < BATCH; k++) {
			long place = place_of(&rec, s, k);
			CHECK(place >= 0 && place % CONTEXT == 0 && seen[place]++ == 0);
		}
	}
	CHECK(memcmp(rec.tokens[0], rec.tokens[1], sizeof rec.tokens[0]));
}

static void random_places(void)
{
	struct record one = {.order = MP_RANDOM, .steps = 8}, many = one, later = {.order = MP_RANDOM, .steps = 2, .from = 5};
	int seen[IDS] = {0}, places = 0;
	read_mesh(&one, 1, 1, 1, 1, true);
	for (int k = 0; k < 8 * BATCH; k++) {
		long place = place_of(&one, k / BATCH, k % BATCH);
		CHECK(place >= 0);
		places += place >= 0 && seen[place]++ == 0;
	}
	CHECK(places > 20 && places <= IDS - CONTEXT);  // 48 draws of 39
	static const int meshes[][4] = {{2, 1, 1, 3}, {1, 2, 2, 2}, {3, 1, 2, 2}, {6, 1, 1, 1}};
	for (int i = 0; i < 4; i++) {
		read_mesh(&many, meshes[i][0], meshes[i][1], meshes[i][2], meshes[i][3], true);
		CHECK(!memcmp(one.tokens, many.tokens, sizeof one.tokens) && !memcmp(one.labels, many.labels, sizeof one.labels));
	}
	read_mesh(&later, 1, 1, 1, 1, true);            // a run that goes on
	CHECK(!memcmp(one.tokens[5], later.tokens[0], 2 * sizeof one.tokens[0]));
	make("text.txt", NULL, 0, 1, CONTEXT + 1);      // one window: enough for any batch
	read_mesh(&one, 1, 1, 1, 1, true);
	CHECK(place_of(&one, 0, 0) == 0 && place_of(&one, 7, 5) == 0);
}

// Words repeat, in training and evaluation alike; the streams differ.
static void synthetic(void)
{
	struct mp_model m = model_of(5000, true);
	struct mp_dataset *d = mp_dataset_open(&m, "synthetic:3", false), *e = mp_dataset_open(&m, "synthetic:3", true);
	long n = mp_dataset_ids(d, NULL), k = mp_dataset_ids(e, NULL), letters = 0;
	int32_t *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)k * sizeof *b);
	static int first[5000], second[5000];
	mp_dataset_ids(d, a);
	mp_dataset_ids(e, b);
	for (long i = 0; i < n; i++)
		letters += first[a[i]]++ == 0;
	for (long i = 0; i < k; i++)
		second[b[i]]++;
	CHECK(n > 200000 && k > 10000 && letters > 20 && letters <= 32 && memcmp(a, b, (size_t)k * sizeof *b));
	for (int i = 0; i < 5000; i++)
		CHECK(!first[i] == !second[i]);
	free(a);
	free(b);
	mp_dataset_close(d);
	mp_dataset_close(e);
}

void test_tokens(void)
{
	formats();
	mistakes();
	splits();
	tensors();
	file_order();
	shuffled();
	random_places();
	synthetic();
}
