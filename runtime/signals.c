// Ctrl-C and SIGTERM ask a run to end after the running step. The handler only sets a flag, which the ranks exchange
// after each step, so that all end at the same one. A second signal of the same kind has its usual effect, for when
// the step does not end.
#define _POSIX_C_SOURCE 200809L
#include "mp_run.h"

#include <signal.h>

// Truly per process, as signals are.
static volatile sig_atomic_t came;

static void note(int signal)
{
	(void)signal;
	came = 1;
}

void mp_signals_catch(void)
{
	struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN); // a rank that is gone shows as a failed write
}

bool mp_signal_came(void)
{
	return came;
}
