// sandbox.c: limits on what a spec may use.
//
// A spec is a program that somebody else may have written, and reading a model must end. Lua's own means are not
// enough: a count hook does not run inside a C function (a pattern match can take years), and pcall catches what
// the hook raises. So there are three limits. The allocator refuses to hold more than 64 MiB; the count hook ends
// mpgen itself rather than raising an error that the spec could catch; and a timer ends the process with a prepared
// message when the hook gets no chance. Finalizers, which run without hooks, are refused in library.c.
#define _XOPEN_SOURCE 700
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "session.h"

enum { MEMORY_MIB = 64, HOOK_INTERVAL = 1000, MOST_INSTRUCTIONS_MILLIONS = 100, DEADLINE_SECONDS = 10 };

Session *session_of(lua_State *L)
{
	return *(Session **)lua_getextraspace(L);
}

// Lua raises an error without a line when memory runs out, and collects garbage first: remember the line at each
// refusal, the last one is the error's. Reading the running line needs no memory.
static void remember_line(Session *session)
{
	lua_Debug frame;
	session->refused = (Location){.file = session->options->file};
	for (int level = 0; session->state && lua_getstack(session->state, level, &frame); level++) {
		lua_getinfo(session->state, "Sl", &frame);
		if (frame.currentline <= 0 || frame.source[0] != '@')
			continue;
		for (int i = 0; i < session->files.count; i++)
			if (!strcmp(session->files.at[i].name, frame.source + 1))
				session->refused = (Location){.file = session->files.at[i].name, .line = frame.currentline};
		return;
	}
}

static void *allocate(void *user, void *block, size_t old_size, size_t new_size)
{
	Session *session = user;
	size_t held = block ? old_size : 0;
	if (new_size == 0) {
		free(block);
		session->memory -= held;
		return NULL;
	}
	if (new_size > held && new_size - held > ((size_t)MEMORY_MIB << 20) - session->memory) {
		remember_line(session);
		return NULL;
	}
	void *memory = realloc(block, new_size);
	if (memory)
		session->memory += new_size - held;
	return memory;
}

void charge(lua_State *L, long instructions)
{
	Session *session = session_of(L);
	session->instructions += instructions;
	if (session->instructions > MOST_INSTRUCTIONS_MILLIONS * 1000000L) {
		session->instructions = 0; // spec_error finds the line through here(), which is charged too
		spec_error(L, "the spec ran for more than %d million instructions: an endless loop?\n"
		           "a spec only describes a model; forward runs once, not once a step", MOST_INSTRUCTIONS_MILLIONS);
	}
}

static void count_instructions(lua_State *L, lua_Debug *event)
{
	(void)event;
	charge(L, HOOK_INTERVAL);
}

static int panic(lua_State *L)
{
	fail(EXIT_BUG, "unexpected error in Lua: %s", lua_tostring(L, -1));
}

lua_State *sandbox_open(Session *session)
{
	lua_State *L = lua_newstate(allocate, session);
	if (!L)
		fail(EXIT_BUG, "out of memory");
	*(Session **)lua_getextraspace(L) = session; // every coroutine inherits it, and the hook
	lua_atpanic(L, panic);
	lua_sethook(L, count_instructions, LUA_MASKCOUNT, HOOK_INTERVAL);
	return L;
}

// What the signal handler needs: the finished message. Handlers may only call write and _exit.
static struct {
	char message[512];
	size_t length;
	struct sigaction before;
} deadline;

static void on_deadline(int signal)
{
	(void)signal;
	if (write(STDERR_FILENO, deadline.message, deadline.length) < 0)
		_exit(EXIT_IO);
	_exit(EXIT_SPEC);
}

static void set_timer(int seconds)
{
	struct itimerval timer = {.it_value = {.tv_sec = seconds}};
	setitimer(ITIMER_REAL, &timer, NULL);
}

void deadline_start(const char *file)
{
	char shown[256];
	snprintf(shown, sizeof shown, "%s", file);
	for (char *at = shown; *at; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	int length = snprintf(deadline.message, sizeof deadline.message,
	                      "%s: error: the spec ran for longer than %d seconds: a loop or a pattern that does not end?\n"
	                      "      | note: a spec only describes a model; forward runs once, not once a step\n",
	                      shown, DEADLINE_SECONDS);
	deadline.length = (size_t)length;
	struct sigaction action = {.sa_handler = on_deadline};
	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, &deadline.before);
	set_timer(DEADLINE_SECONDS);
}

void deadline_stop(void)
{
	set_timer(0);
	sigaction(SIGALRM, &deadline.before, NULL);
}
