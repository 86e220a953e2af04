// Under a launcher ranks are strangers that know only the address of rank 0's machine and a port that the launcher
// itself may occupy. Rank 0 listens on the first free port after it; the others try those ports until one answers
// with the same job. The first exchange compares what must be equal on all ranks, so that two builds never train
// together. Trusted networks only: nothing is encrypted.
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 16, ANSWER_SECONDS = 5 };

static const char magic[8] = "mpgen 1";

// What a rank says of itself.
struct hello {
	char magic[8];
	int32_t port, rank, world;      // port: MASTER_PORT, tells jobs apart
	char build[68];
};

// What rank 0 answers, at once and again when all have come: empty when the rank may join.
struct answer {
	char magic[8];
	char refusal[248];
};

static struct addrinfo *resolve(const char *host, int port, int family, int flags)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
	char service[16];

	snprintf(service, sizeof service, "%d", port);
	int error = getaddrinfo(host, service, &hints, &found);
	if (error)
		mp_fail(MP_IO_FAILED, "MASTER_ADDR=%s cannot be resolved: %s", host ? host : "", gai_strerror(error));
	return found;
}

static void set_timeouts(int socket, int seconds)
{
	struct timeval limit = {.tv_sec = seconds};
	setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static void set_options(int socket)
{
	int on = 1;
	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static bool exchange_whole(int socket, void *bytes, size_t n, bool sending)
{
	char *at = bytes;

	while (n) {
		ssize_t done = sending ? send(socket, at, n, MSG_NOSIGNAL) : recv(socket, at, n, 0);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

static struct hello own_hello(const struct mp_session *s)
{
	struct hello hello = {.port = s->launch.port, .rank = s->launch.rank, .world = s->launch.world};
	memcpy(hello.magic, magic, sizeof magic);
	snprintf(hello.build, sizeof hello.build, "%s", s->model->build);
	return hello;
}

// ---- Rank 0

static int listen_near(const struct mp_session *s)
{
	bool here = !strncmp(s->launch.address, "127.", 4) || !strcmp(s->launch.address, "localhost");
	struct addrinfo *target = resolve(s->launch.address, s->launch.port, AF_UNSPEC, 0);
	int family = target->ai_family, error = 0;

	freeaddrinfo(target);
	for (int port = s->launch.port + 1; port <= s->launch.port + PORTS; port++) {
		struct addrinfo *own = resolve(here ? s->launch.address : NULL, port, family, AI_PASSIVE);
		int on = 1, listener = socket(own->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		bool ready = !bind(listener, own->ai_addr, own->ai_addrlen) && !listen(listener, 128);
		error = errno;
		freeaddrinfo(own);
		if (ready)
			return listener;
		close(listener);
	}
	mp_fail(MP_IO_FAILED, "rank 0 cannot listen on ports %d to %d of %s: %s; set MASTER_PORT to where ports are free",
	        s->launch.port + 1, s->launch.port + PORTS, s->launch.address, strerror(error));
}

// Writes why a rank may not join; leaves text empty when it may.
static void judge(const struct mp_session *s, const struct hello *hello, const int *sockets, char *text, size_t size)
{
	struct hello own = own_hello(s);

	if (hello->world != own.world)
		snprintf(text, size, "rank %d counts %d ranks but rank 0 counts %d: start all with the same number",
		         hello->rank, hello->world, own.world);
	else if (strncmp(hello->build, own.build, sizeof own.build))
		snprintf(text, size, "rank %d runs build %.64s but rank 0 runs %.64s: copy the same program to all machines",
		         hello->rank, hello->build, own.build);
	else if (hello->rank <= 0 || hello->rank >= own.world || sockets[hello->rank] >= 0)
		snprintf(text, size, "two processes say that they are rank %d", hello->rank);
}

// Takes one connection. False when it was not one of this job's.
static bool admit(const struct mp_session *s, int listener, int *sockets)
{
	struct hello hello;
	struct answer answer = {.refusal = ""};
	int joined = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (joined < 0)
		return false;
	set_timeouts(joined, ANSWER_SECONDS);
	bool ours = exchange_whole(joined, &hello, sizeof hello, false) && !memcmp(hello.magic, magic, sizeof magic)
	            && hello.port == s->launch.port;
	if (!ours) {
		close(joined);
		return false;
	}
	hello.build[sizeof hello.build - 1] = '\0';
	judge(s, &hello, sockets, answer.refusal, sizeof answer.refusal);
	memcpy(answer.magic, magic, sizeof magic);
	if (*answer.refusal) {
		exchange_whole(joined, &answer, sizeof answer, true);
		for (int k = 1; k < s->launch.world; k++)
			if (sockets[k] >= 0)
				exchange_whole(sockets[k], &answer, sizeof answer, true);
		mp_fail(MP_RANKS_DIFFER, "%s", answer.refusal);
	}
	exchange_whole(joined, &answer, sizeof answer, true);
	sockets[hello.rank] = joined;
	return true;
}

static void gather_ranks(const struct mp_session *s, int *sockets)
{
	int listener = listen_near(s), missing = s->launch.world - 1;
	double limit = mp_seconds() + s->options.timeout;
	struct answer welcome = {.refusal = ""};

	memcpy(welcome.magic, magic, sizeof magic);
	while (missing) {
		struct pollfd wait = {.fd = listener, .events = POLLIN};
		double left = limit - mp_seconds();
		if (left <= 0)
			mp_fail(MP_PEER_FAILED, "%d of %d ranks did not connect within %d seconds (--timeout)", missing,
			        s->launch.world - 1, s->options.timeout);
		if (poll(&wait, 1, left < 1 ? (int)(left * 1000) + 1 : 1000) > 0 && admit(s, listener, sockets))
			missing--;
	}
	for (int k = 1; k < s->launch.world; k++)
		exchange_whole(sockets[k], &welcome, sizeof welcome, true); // a rank that is gone shows in the control channel
	close(listener);
}

// ---- The others

static int connect_once(const struct mp_session *s, int port)
{
	struct addrinfo *target = resolve(s->launch.address, port, AF_UNSPEC, 0);
	int joined = -1;

	for (struct addrinfo *a = target; a && joined < 0; a = a->ai_next) {
		joined = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		set_timeouts(joined, ANSWER_SECONDS);
		if (connect(joined, a->ai_addr, a->ai_addrlen)) {
			close(joined);
			joined = -1;
		}
	}
	freeaddrinfo(target);
	return joined;
}

static bool take_answer(int socket)
{
	struct answer answer;
	if (!exchange_whole(socket, &answer, sizeof answer, false) || memcmp(answer.magic, magic, sizeof magic))
		return false;
	if (*answer.refusal)
		mp_fail(MP_RANKS_DIFFER, "%.247s", answer.refusal);
	return true;
}

// Asks to join at a port. Returns the socket, or -1 when nobody or another job is there. Rank 0 answers at once that
// it is the right one, and again when all ranks have come.
static int join_at(const struct mp_session *s, int port, double limit)
{
	struct hello hello = own_hello(s);
	int joined = connect_once(s, port);

	if (joined < 0)
		return -1;
	if (!exchange_whole(joined, &hello, sizeof hello, true) || !take_answer(joined)) {
		close(joined);
		return -1;
	}
	double left = limit - mp_seconds();
	set_timeouts(joined, left < 1 ? 1 : (int)left);
	if (!take_answer(joined))
		mp_fail(MP_PEER_FAILED, "rank 0 ended, or not all ranks came within %d seconds (--timeout)", s->options.timeout);
	return joined;
}

static int join(const struct mp_session *s)
{
	double started = mp_seconds(), limit = started + s->options.timeout;
	bool told = false;

	for (;;) {
		for (int port = s->launch.port + 1; port <= s->launch.port + PORTS; port++) {
			int joined = join_at(s, port, limit);
			if (joined >= 0)
				return joined;
		}
		if (mp_seconds() > limit)
			mp_fail(MP_PEER_FAILED, "rank 0 did not answer at %s ports %d to %d within %d seconds (--timeout)",
			        s->launch.address, s->launch.port + 1, s->launch.port + PORTS, s->options.timeout);
		if (!told && mp_seconds() > started + 10) {
			fprintf(stderr, "%s: rank %d: waiting for rank 0 at %s\n", s->model->name, s->launch.rank, s->launch.address);
			told = true;
		}
		nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
}

void mp_connect(const struct mp_session *s, int *sockets)
{
	for (int k = 0; k < s->launch.world; k++)
		sockets[k] = -1;
	if (s->launch.world == 1)
		return;
	if (s->launch.rank == 0)
		gather_ranks(s, sockets);
	else
		sockets[0] = join(s);
	for (int k = 0; k < s->launch.world; k++) {
		if (sockets[k] < 0)
			continue;
		set_timeouts(sockets[k], 0);
		set_options(sockets[k]);
	}
}
