// Messages between ranks outside NCCL: agreeing to stop, telling the NCCL id, checkpoints. Few and small, so a star
// around rank 0 over stream sockets is enough. The same sockets tell when a rank is gone: each rank has a reader
// thread that takes messages as they come, and a socket that closes without a goodbye ends the process at once, even
// while its main thread waits for the device. Rank 0 tells the others which rank it was before it ends itself.
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum kind { DATA, GOODBYE, FAILED };

struct header {
	uint32_t kind, rank;            // FAILED: the rank that failed
	uint64_t bytes;                 // that follow
};

struct message {
	struct message *next;
	size_t bytes;
	char data[];
};

struct peer {
	int rank, socket;
	bool goodbye;                   // it ended well
	struct message *first, **last;  // arrived, not yet taken
};

struct mp_control {
	int rank, world, timeout;
	bool quiet;                     // started by hand: the parent process says who failed
	const char *program;
	struct peer *peers;             // rank 0: all others in order; others: rank 0
	int peer_count;
	pthread_t reader;
	pthread_mutex_t lock;           // guards the peers' messages and goodbyes
	pthread_cond_t arrived;
	pthread_mutex_t sending;
	int wake[2];                    // a pipe: closing its end stops the reader
	unsigned char vote;             // rank 0's own
};

// ---- Sending

static bool write_all(int socket, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n) {
		ssize_t done = send(socket, at, n, MSG_NOSIGNAL);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

static bool read_all(int socket, void *bytes, size_t n)
{
	char *at = bytes;

	while (n) {
		ssize_t done = recv(socket, at, n, 0);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

static bool send_message(struct peer *p, enum kind kind, int rank, const void *bytes, size_t n)
{
	struct header header = {kind, (uint32_t)rank, n};
	return write_all(p->socket, &header, sizeof header) && write_all(p->socket, bytes, n);
}

// A rank is gone: tells the others and ends this process.
MP_NORETURN static void rank_failed(struct mp_control *c, int rank)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 2; // the main thread may hang in a send to the rank that is gone
	if (c->rank == 0 && !pthread_mutex_timedlock(&c->sending, &limit))
		for (int i = 0; i < c->peer_count; i++)
			if (c->peers[i].rank != rank)
				send_message(&c->peers[i], FAILED, rank, NULL, 0);
	if (c->quiet)
		mp_end_process(MP_PEER_FAILED);
	mp_fail(MP_PEER_FAILED, "rank %d failed, its own message says why; this rank ends with it", rank);
}

static void send_to(struct mp_control *c, struct peer *p, enum kind kind, const void *bytes, size_t n)
{
	pthread_mutex_lock(&c->sending);
	bool sent = send_message(p, kind, c->rank, bytes, n);
	pthread_mutex_unlock(&c->sending);
	if (sent || kind == GOODBYE)
		return;
	sleep(1); // the reader sees the closed socket and knows better which rank failed
	rank_failed(c, p->rank);
}

// ---- Receiving

// Takes one message off a socket. False when nothing more will come.
static bool read_message(struct mp_control *c, struct peer *p)
{
	struct header header;

	if (!read_all(p->socket, &header, sizeof header))
		return false;
	if (header.kind == FAILED)
		rank_failed(c, (int)header.rank);
	struct message *m = mp_allocate(sizeof *m + header.bytes);
	m->bytes = header.bytes;
	if (!read_all(p->socket, m->data, m->bytes)) {
		free(m);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	if (header.kind == GOODBYE) {
		p->goodbye = true;
		free(m);
	} else {
		*p->last = m;
		p->last = &m->next;
	}
	pthread_cond_broadcast(&c->arrived);
	pthread_mutex_unlock(&c->lock);
	return true;
}

static void *read_messages(void *argument)
{
	struct mp_control *c = argument;
	struct pollfd *polls = mp_allocate(((size_t)c->peer_count + 1) * sizeof *polls);

	mp_fail_name(c->program, c->rank);
	for (int i = 0; i < c->peer_count; i++)
		polls[i] = (struct pollfd){.fd = c->peers[i].socket, .events = POLLIN};
	polls[c->peer_count] = (struct pollfd){.fd = c->wake[0], .events = POLLIN};
	for (;;) {
		if (poll(polls, (nfds_t)c->peer_count + 1, -1) < 0)
			continue;
		if (polls[c->peer_count].revents)
			break;
		for (int i = 0; i < c->peer_count; i++) {
			if (!polls[i].revents || read_message(c, &c->peers[i]))
				continue;
			if (!c->peers[i].goodbye)
				rank_failed(c, c->peers[i].rank);
			polls[i].fd = -1;
		}
	}
	free(polls);
	return NULL;
}

// Waits until p has a message, or its goodbye when that is what is wanted. Called with the lock.
static void wait_for(struct mp_control *c, struct peer *p, bool goodbye)
{
	struct timespec limit;

	clock_gettime(CLOCK_MONOTONIC, &limit);
	limit.tv_sec += c->timeout;
	while (goodbye ? !p->goodbye : !p->first) {
		if (pthread_cond_timedwait(&c->arrived, &c->lock, &limit) == ETIMEDOUT)
			mp_fail(MP_PEER_FAILED, "rank %d sent nothing for %d seconds (--timeout) while this rank waited for it",
			        p->rank, c->timeout);
		if (p->goodbye && !p->first && !goodbye)
			mp_fail(MP_BUG, "rank %d ended while this rank waits for its message", p->rank);
	}
}

static void receive_from(struct mp_control *c, struct peer *p, void *bytes, size_t n)
{
	pthread_mutex_lock(&c->lock);
	wait_for(c, p, false);
	struct message *m = p->first;
	p->first = m->next;
	if (!p->first)
		p->last = &p->first;
	pthread_mutex_unlock(&c->lock);
	if (m->bytes != n)
		mp_fail(MP_BUG, "rank %d sent %zu bytes where this rank expects %zu: they are at different places of the program",
		        p->rank, m->bytes, n);
	memcpy(bytes, m->data, n);
	free(m);
}

// ---- Opening and closing

struct mp_control *mp_control_open(const struct mp_session *s, int rank, const int *sockets)
{
	struct mp_control *c = mp_allocate(sizeof *c);
	pthread_condattr_t monotonic;

	c->rank = rank;
	c->world = s->launch.world;
	c->timeout = s->options.timeout;
	c->quiet = !s->launch.launcher;
	c->program = s->model->name;
	if (c->world == 1)
		return c;
	c->peer_count = rank == 0 ? c->world - 1 : 1;
	c->peers = mp_allocate((size_t)c->peer_count * sizeof *c->peers);
	for (int i = 0; i < c->peer_count; i++) {
		struct peer *p = &c->peers[i];
		struct timeval limit = {.tv_sec = c->timeout};
		p->rank = rank == 0 ? i + 1 : 0;
		p->socket = sockets[p->rank];
		p->last = &p->first;
		setsockopt(p->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->sending, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->arrived, &monotonic);
	if (pipe(c->wake) || pthread_create(&c->reader, NULL, read_messages, c))
		mp_fail(MP_IO_FAILED, "no thread for the control channel: %s", strerror(errno));
	return c;
}

void mp_control_close(struct mp_control *c)
{
	for (int i = 0; i < c->peer_count; i++)
		send_to(c, &c->peers[i], GOODBYE, NULL, 0);
	for (int i = 0; i < c->peer_count; i++) {
		pthread_mutex_lock(&c->lock);
		wait_for(c, &c->peers[i], true);
		pthread_mutex_unlock(&c->lock);
	}
	if (c->peer_count) {
		close(c->wake[1]);
		pthread_join(c->reader, NULL);
		close(c->wake[0]);
	}
	for (int i = 0; i < c->peer_count; i++)
		close(c->peers[i].socket);
	free(c->peers);
	free(c);
}

// ---- Collective functions

void mp_gather(struct mp_rank *r, const void *bytes, size_t n, void *all)
{
	struct mp_control *c = r->control;

	if (c->rank != 0) {
		send_to(c, &c->peers[0], DATA, bytes, n);
		return;
	}
	memcpy(all, bytes, n);
	for (int i = 0; i < c->peer_count; i++)
		receive_from(c, &c->peers[i], (char *)all + (size_t)c->peers[i].rank * n, n);
}

void mp_broadcast(struct mp_rank *r, void *bytes, size_t n, int root)
{
	struct mp_control *c = r->control;

	if (c->rank != 0 && c->rank == root)
		send_to(c, &c->peers[0], DATA, bytes, n);
	else if (c->rank != 0)
		receive_from(c, &c->peers[0], bytes, n);
	if (c->rank != 0)
		return;
	if (root != 0)
		receive_from(c, &c->peers[root - 1], bytes, n);
	for (int i = 0; i < c->peer_count; i++)
		if (c->peers[i].rank != root)
			send_to(c, &c->peers[i], DATA, bytes, n);
}

void mp_vote(struct mp_rank *r, unsigned char flags)
{
	if (r->control->rank == 0)
		r->control->vote = flags;
	else
		send_to(r->control, &r->control->peers[0], DATA, &flags, 1);
}

unsigned char mp_voted(struct mp_rank *r)
{
	struct mp_control *c = r->control;
	unsigned char all = c->vote, one;

	for (int i = 0; c->rank == 0 && i < c->peer_count; i++) {
		receive_from(c, &c->peers[i], &one, 1);
		all |= one;
	}
	mp_broadcast(r, &all, 1, 0);
	return all;
}

bool mp_any(struct mp_rank *r, bool flag)
{
	mp_vote(r, flag);
	return mp_voted(r);
}

void mp_barrier(struct mp_rank *r)
{
	mp_any(r, false);
}
