// Which rank is this process? Launchers say so in the environment, each in its own variables. They are asked in a
// fixed order and the first that is present decides alone, because mixing two (torchrun inside a Slurm job) gives
// nonsense. Without any, the program was started by hand and runs all its ranks on this machine.
#define _POSIX_C_SOURCE 200809L
#include "mp_run.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct launcher {
	const char *name, *rank, *world, *local_rank, *local_world; // variables; the local ones may be NULL or unset
} launchers[] = {
	{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
	{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
	{"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
	{"Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", NULL},
};

// A variable's number; `missing` when it is not set.
static int variable(const char *name, int missing)
{
	const char *text = name ? getenv(name) : NULL;
	char *end;

	if (!text || !*text)
		return missing;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > INT_MAX)
		mp_fail(MP_USAGE, "the environment's %s=\"%s\" is no number", name, text);
	return (int)value;
}

// First host of Slurm's list: "node[07-09,12],login" names node07 first.
static void first_slurm_host(char *host, size_t size)
{
	const char *list = getenv("SLURM_STEP_NODELIST");
	if (!list)
		list = getenv("SLURM_JOB_NODELIST");
	if (!list || !*list)
		list = "127.0.0.1"; // several nodes have a list
	int prefix = (int)strcspn(list, "[,");
	const char *range = list[prefix] == '[' ? list + prefix + 1 : "";
	snprintf(host, size, "%.*s%.*s", prefix, list, (int)strcspn(range, "-,]"), range);
}

// Where rank 0 listens. Launchers that do not say so are usually on one machine.
static void find_address(struct mp_launch *launch, const struct launcher *who)
{
	const char *address = getenv("MASTER_ADDR");
	bool one_machine = variable(who->local_world, launch->world) == launch->world;

	if (address && *address)
		snprintf(launch->address, sizeof launch->address, "%s", address);
	else if (!strcmp(who->name, "Slurm"))
		first_slurm_host(launch->address, sizeof launch->address);
	else if (one_machine)
		snprintf(launch->address, sizeof launch->address, "127.0.0.1");
	else
		mp_fail(MP_USAGE, "set MASTER_ADDR to the host of rank 0: %s started ranks on several machines", who->name);
	// Jobs that share a machine must not meet: without MASTER_PORT the job's number spreads them.
	launch->port = variable("MASTER_PORT", 20000 + variable("SLURM_JOB_ID", 9500) % 10000);
	if (launch->port < 1 || launch->port > 65000)
		mp_fail(MP_USAGE, "MASTER_PORT=%d is out of range: use 1 to 65000", launch->port);
}

void mp_launch_find(struct mp_launch *launch, int mesh_size)
{
	*launch = (struct mp_launch){.launcher = NULL, .world = mesh_size};
	for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
		const struct launcher *who = &launchers[i];
		int rank = variable(who->rank, -1), world = variable(who->world, -1);
		if (rank < 0)
			continue;
		if (world < 0)
			mp_fail(MP_USAGE, "%s is set but %s is not: set both, or neither to run all ranks here", who->rank, who->world);
		if (rank >= world)
			mp_fail(MP_USAGE, "%s=%d must be below %s=%d", who->rank, rank, who->world, world);
		launch->launcher = who->name;
		launch->rank = rank;
		launch->world = world;
		launch->local_rank = variable(who->local_rank, -1);
		find_address(launch, who);
		return;
	}
}

void mp_launch_environment(const struct mp_options *options, int rank)
{
	char host[64];

	setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0); // several communicators at once are launched in one order
	setenv("NCCL_RUNTIME_CONNECT", "0", 0); // connect when communicators are made, not inside a step
	if (!options->one_gpu)
		return;
	// NCCL refuses two ranks on one GPU unless they claim to be on different hosts; then it must use sockets.
	snprintf(host, sizeof host, "mpgen-one-gpu-%d", rank);
	setenv("NCCL_HOSTID", host, 1);
	setenv("NCCL_SOCKET_IFNAME", "lo", 0);
	setenv("NCCL_IB_DISABLE", "1", 0);
}
