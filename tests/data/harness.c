// harness.c: the world around the code under test: failures that a parent process reads, ranks that are threads,
// device memory that is host memory, and the messages between ranks that control.c would carry.
#define _GNU_SOURCE
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/wait.h>

static atomic_int failures, checks;

void check(bool good, const char *what, const char *file, int line)
{
	checks++;
	if (good)
		return;
	failures++;
	fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

void quiet(bool on)
{
	static int kept = -1;
	fflush(stderr);
	if (on) {
		int none = open("/dev/null", O_WRONLY);
		kept = dup(2);
		dup2(none, 2);
		close(none);
	} else {
		dup2(kept, 2);
		close(kept);
	}
}

// ---------------------------------------------------------------------------------------------------------
// Refusals

static int child, message[2];

bool refuse_child(void)
{
	fflush(NULL);
	if (pipe(message))
		abort();
	child = fork();
	if (child == 0)
		dup2(message[1], 2);
	close(message[1]);
	return child == 0;
}

void refuse_check(int status, const char *part, const char *file, int line)
{
	char text[8192];
	size_t n = 0;
	ssize_t got;
	int result;
	while (n < sizeof text - 1 && (got = read(message[0], text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = 0;
	close(message[0]);
	waitpid(child, &result, 0);
	bool good = WIFEXITED(result) && WEXITSTATUS(result) == status && strstr(text, part);
	check(good, part, file, line);
	if (!good)
		fprintf(stderr, "  status %d instead of %d: %s\n", WIFEXITED(result) ? WEXITSTATUS(result) : -1, status, text);
	if (getenv("SHOW"))
		fprintf(stderr, "  %s", text);
}

void mp_fail(enum mp_exit status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	_exit(status);
}

void mp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
	mp_fail(MP_DEVICE_FAILED, "%s:%d: %s: %d", file, line, call, (int)error);
}

void *mp_allocate(size_t bytes)
{
	void *memory = calloc(1, bytes ? bytes : 1);
	if (!memory)
		mp_fail(MP_IO_FAILED, "out of memory");
	return memory;
}

size_t mp_type_bytes(enum mp_type type) { return type == MP_F64 ? 8 : 4; }

// ---------------------------------------------------------------------------------------------------------
// The device

cudaError_t cudaMallocHost(void **memory, size_t bytes) { return *memory = malloc(bytes ? bytes : 1), cudaSuccess; }
cudaError_t cudaFreeHost(void *memory) { return free(memory), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return (void)stream, cudaSuccess; }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	(void)kind, (void)stream;
	memcpy(to, from, n);
	return cudaSuccess;
}

// ---------------------------------------------------------------------------------------------------------
// Ranks

static pthread_barrier_t barrier;
static void *shared;

void mp_barrier(struct mp_rank *r)
{
	if (r->world > 1)
		pthread_barrier_wait(&barrier);
}

void mp_broadcast(struct mp_rank *r, void *bytes, size_t n, int root)
{
	if (r->rank == root)
		shared = bytes;
	mp_barrier(r);
	if (r->rank != root)
		memcpy(bytes, shared, n);
	mp_barrier(r);
}

void mp_gather(struct mp_rank *r, const void *bytes, size_t n, void *all)
{
	if (r->rank == 0)
		shared = all;
	mp_barrier(r);
	memcpy((char *)shared + (size_t)r->rank * n, bytes, n);
	mp_barrier(r);
}

struct start {
	struct mp_rank rank;
	void (*body)(struct mp_rank *r, void *context);
	void *context;
};

static void *run_rank(void *argument)
{
	struct start *s = argument;
	struct mp_rank *r = &s->rank;
	r->arena = malloc(r->program->arena_bytes + 1);
	memset(r->arena, 0xAB, r->program->arena_bytes + 1);
	s->body(r, s->context);
	free(r->arena);
	free(r->input);
	return NULL;
}

void run_ranks(const struct mp_model *m, void (*body)(struct mp_rank *r, void *context), void *context)
{
	int world = m->axis[MP_DP] * m->axis[MP_TP] * m->axis[MP_PP];
	struct start *start = calloc((size_t)world, sizeof *start);
	pthread_t *thread = calloc((size_t)world, sizeof *thread);
	pthread_barrier_init(&barrier, NULL, (unsigned)world);
	for (int k = 0; k < world; k++) {
		struct mp_rank *r = &start[k].rank;
		*r = (struct mp_rank){.model = m, .rank = k, .world = world, .tp = k % m->axis[MP_TP]};
		r->dp = k / m->axis[MP_TP] % m->axis[MP_DP];
		r->pp = k / m->axis[MP_TP] / m->axis[MP_DP];
		r->program = m->program(r->pp);
		start[k].body = body;
		start[k].context = context;
		if (world == 1)
			run_rank(&start[k]);
		else if (pthread_create(&thread[k], NULL, run_rank, &start[k]))
			abort();
	}
	for (int k = 0; k < world && world > 1; k++)
		pthread_join(thread[k], NULL);
	pthread_barrier_destroy(&barrier);
	free(thread);
	free(start);
}

// ---------------------------------------------------------------------------------------------------------
// Files

static char folder[64] = "/tmp/mpgen-data-XXXXXX";

const char *at(const char *name)
{
	static char paths[8][256];
	static int next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

void write_file(const char *path, const void *bytes, size_t n)
{
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
		abort();
}

char *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *bytes = NULL;
	*n = 0;
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*n = (size_t)ftell(f);
	rewind(f);
	bytes = malloc(*n + 1);
	if (fread(bytes, 1, *n, f) != *n)
		abort();
	bytes[*n] = 0;
	fclose(f);
	return bytes;
}

// With a folder as argument its files are there and stay there, for make.py and check.py.
int main(int argc, char **argv)
{
	if (argc > 1)
		snprintf(folder, sizeof folder, "%s", argv[1]);
	else if (!mkdtemp(folder))
		abort();
	test_random();
	test_json();
	test_safetensors();
	test_checkpoint();
	test_filters();
	test_data();
	test_idx();
	test_loader();
	test_tokens();
	test_outputs();
	if (argc < 2) {
		char command[128];
		snprintf(command, sizeof command, "rm -r %s", folder);
		if (system(command))
			abort();
	}
	printf("%d checks, %d failed\n", checks, failures);
	return failures > 0;
}
