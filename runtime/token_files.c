// token_files.c: the files that token data come in.
//
//     NAME.idx + NAME.bin   Megatron: .idx says the type of the ids and where each document lies in .bin
//     NAME.bin              llm.c: 256 int32 of header, magic 20240520 (version 1, uint16) or 20240801 (version 7, uint32)
//     NAME.bin              nanoGPT: uint16 without a header
//     any other file        raw bytes: each is a token, and the vocabulary is 256
//     DIR                   train.bin and val.bin in it, as nanoGPT's
//
// What a header promises is checked against the file's size. All of it is little-endian, as the machines are.
#include "data.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	LLMC_HEADER = 1024, LLMC_16 = 20240520, LLMC_16_VERSION = 1, LLMC_32 = 20240801, LLMC_32_VERSION = 7,
	MEGATRON_HEADER = 34, BYTE_IDS = 256
};

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && !strcmp(text + n - m, end);
}

// The file in memory, read-only; takes path over.
static struct mp_tokens map_file(char *path)
{
	struct mp_tokens t = {.path = path};
	int fd = mp_open_read(path);
	t.map_bytes = (size_t)mp_file_bytes(fd, path);
	if (t.map_bytes == 0)
		mp_fail(MP_BAD_INPUT, "%s is empty", path);
	t.map = mmap(NULL, t.map_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (t.map == MAP_FAILED)
		mp_fail(MP_IO_FAILED, "cannot map %s", path);
	close(fd);
	return t;
}

static uint32_t word_at(const void *map, size_t offset)
{
	uint32_t word;
	memcpy(&word, (const char *)map + offset, sizeof word);
	return word;
}

static uint64_t long_at(const void *map, size_t offset)
{
	uint64_t word;
	memcpy(&word, (const char *)map + offset, sizeof word);
	return word;
}

// ---------------------------------------------------------------------------------------------------------
// Megatron

// Bytes of an id by the code in the header; 0: not a type of ids.
static int megatron_bytes(int code)
{
	return code == 1 ? 1 : code == 8 ? 2 : code == 4 ? 4 : 0;
}

// Ids that the documents hold. They must lie one after another: the data are read as one run.
static uint64_t megatron_ids(const struct mp_tokens *index, uint64_t sequences, int bytes)
{
	size_t lengths = MEGATRON_HEADER, offsets = lengths + sequences * 4;
	uint64_t ids = 0;
	for (uint64_t i = 0; i < sequences; i++) {
		if (long_at(index->map, offsets + i * 8) != ids * (uint64_t)bytes)
			mp_fail(MP_BAD_INPUT, "%s: document %llu does not lie behind the one before it in the .bin file",
			        index->path, (unsigned long long)i);
		ids += word_at(index->map, lengths + i * 4);
	}
	return ids;
}

// stem is the path without .idx or .bin.
static struct mp_tokens open_megatron(const char *stem)
{
	struct mp_tokens index = map_file(mp_text("%s.idx", stem)), t = map_file(mp_text("%s.bin", stem));
	if (index.map_bytes < MEGATRON_HEADER || memcmp(index.map, "MMIDIDX\0\0", 9))
		mp_fail(MP_BAD_INPUT, "%s is not an index of Megatron's: it does not begin with MMIDIDX", index.path);
	uint64_t version = long_at(index.map, 9), sequences = long_at(index.map, 18), documents = long_at(index.map, 26);
	int code = ((const unsigned char *)index.map)[17];
	if (version != 1)
		mp_fail(MP_BAD_INPUT, "%s has version %llu; version 1 can be read", index.path, (unsigned long long)version);
	t.bytes = megatron_bytes(code);
	if (!t.bytes)
		mp_fail(MP_BAD_INPUT, "%s: its ids have type %d; uint8 (1), int32 (4) and uint16 (8) can be read", index.path, code);
	uint64_t left = index.map_bytes - MEGATRON_HEADER;
	if (sequences > left / 12 || documents > (left - sequences * 12) / 8)
		mp_fail(MP_BAD_INPUT, "%s is truncated: it has %zu bytes, its header promises %llu sequences and %llu documents",
		        index.path, index.map_bytes, (unsigned long long)sequences, (unsigned long long)documents);
	uint64_t ids = megatron_ids(&index, sequences, t.bytes);
	if (ids > t.map_bytes / (size_t)t.bytes)
		mp_fail(MP_BAD_INPUT, "%s is truncated: it has %zu bytes, %s promises %llu ids of %d", t.path, t.map_bytes,
		        index.path, (unsigned long long)ids, t.bytes);
	t.ids = t.map;
	t.count = (long)ids;
	munmap(index.map, index.map_bytes);
	free(index.path);
	return t;
}

// The path without .idx or .bin, when there is an index; otherwise NULL.
static char *megatron_stem(const char *path)
{
	char *stem = mp_text("%s", path);
	if (ends_with(stem, ".idx") || ends_with(stem, ".bin"))
		stem[strlen(stem) - 4] = 0;
	char *index = mp_text("%s.idx", stem);
	bool found = mp_exists(index);
	free(index);
	if (found)
		return stem;
	free(stem);
	return NULL;
}

// ---------------------------------------------------------------------------------------------------------
// The others

static bool is_llmc(const struct mp_tokens *t)
{
	return t->map_bytes >= 8 && (word_at(t->map, 0) == LLMC_16 || word_at(t->map, 0) == LLMC_32);
}

static void read_llmc(struct mp_tokens *t)
{
	bool wide = word_at(t->map, 0) == LLMC_32;
	uint32_t version = word_at(t->map, 4), want = wide ? LLMC_32_VERSION : LLMC_16_VERSION;
	if (version != want)
		mp_fail(MP_BAD_INPUT, "%s has version %u of llm.c's format; with its magic number version %u can be read", t->path,
		        (unsigned)version, (unsigned)want);
	if (t->map_bytes < LLMC_HEADER)
		mp_fail(MP_BAD_INPUT, "%s is truncated: it has %zu bytes, its header alone %d", t->path, t->map_bytes, LLMC_HEADER);
	t->bytes = wide ? 4 : 2;
	t->count = word_at(t->map, 8);
	size_t promised = LLMC_HEADER + (size_t)t->count * (size_t)t->bytes;
	if (t->map_bytes != promised)
		mp_fail(MP_BAD_INPUT, "%s is %s: it has %zu bytes, its header promises %ld ids, which is %zu bytes", t->path,
		        t->map_bytes < promised ? "truncated" : "too long", t->map_bytes, t->count, promised);
	t->ids = (const char *)t->map + LLMC_HEADER;
}

static void read_uint16(struct mp_tokens *t)
{
	if (t->map_bytes % 2)
		mp_fail(MP_BAD_INPUT, "%s has %zu bytes, which is no whole number of 16-bit ids", t->path, t->map_bytes);
	t->ids = t->map;
	t->bytes = 2;
	t->count = (long)(t->map_bytes / 2);
}

static void read_bytes(struct mp_tokens *t, const struct mp_model *m)
{
	const unsigned char *bytes = t->map;
	if (m->vocabulary > BYTE_IDS)
		mp_fail(MP_BAD_INPUT, "%s would be read as bytes, a vocabulary of %d, but the spec's is %ld: give a file of ids "
		        "(nanoGPT's, llm.c's or Megatron's, named .bin), or generate the program with a vocabulary of %d", t->path,
		        BYTE_IDS, m->vocabulary, BYTE_IDS);
	if (t->map_bytes > 2 && bytes[0] == 0x1F && bytes[1] == 0x8B)
		mp_fail(MP_BAD_INPUT, "%s is compressed: token data are mapped, not read; gunzip it first", t->path);
	t->ids = t->map;
	t->bytes = 1;
	t->count = (long)t->map_bytes;
}

void mp_token_files_open(struct mp_dataset *d, bool evaluation)
{
	bool folder = mp_is_folder(d->path), keep_tail = evaluation || !d->model->training;
	char *path = folder ? mp_text("%s/%s.bin", d->path, evaluation ? "val" : "train") : mp_text("%s", d->path);
	char *stem = megatron_stem(path);
	struct mp_tokens t;
	if (stem) {
		t = open_megatron(stem);
		free(path);
	} else {
		t = map_file(path);
		if (is_llmc(&t))
			read_llmc(&t);
		else if (ends_with(path, ".bin"))
			read_uint16(&t);
		else
			read_bytes(&t, d->model);
	}
	free(stem);
	mp_tokens_take(d, t, keep_tail);
}
