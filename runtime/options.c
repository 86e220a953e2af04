// The command line of an emitted program. One table holds every option with its help; getopt_long does the parsing.
// Messages and the "did you mean" are ours, because getopt's do not say what would work.
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
	DATA = 256, SPLIT, EVAL, EVAL_EVERY, EVAL_BATCHES, PROMPT, TOKENS, SAMPLES, TEMPERATURE, TOP_K, STEPS, SEED, LOAD, ALLOW_MISSING,
	ALLOW_UNUSED, ALLOW_MISMATCHED, SAVE, SAVE_EVERY, MAX_SHARD_SIZE, ORDER, OUTPUT, LOG, LOG_EVERY,
	TRACE, TUNE, ONE_GPU, NO_COPY_ENGINES, TIMEOUT, HELP
};

enum mode { BOTH, TRAINING, INFERENCE, MODES, TEXT }; // TEXT is a flag beside: of programs that read tokens alone

static const struct row {
	const char *name, *argument;    // argument NULL: a flag
	enum option_id id;
	int mode;                       // the other mode refuses it
	const char *help;
} rows[] = {
	{"data", "PATH", DATA, BOTH, "IDX folder, tokens or text, safetensors file, or \"synthetic\" (made from the seed)"},
	{"split", "PART", SPLIT, BOTH | TEXT, "of --data train on the first PART (0.9), evaluate on the others"},
	{"eval", "PATH", EVAL, TRAINING, "evaluate on this data after the last step"},
	{"eval-every", "N", EVAL_EVERY, TRAINING, "evaluate every N steps as well"},
	{"eval-batches", "N", EVAL_BATCHES, TRAINING, "evaluate on N batches only, always the same, drawn at random"},
	{"prompt", "TEXT|FILE", PROMPT, INFERENCE | TEXT, "go on with this text (bytes, or ids: \"15496, 995\")"},
	{"tokens", "N", TOKENS, INFERENCE | TEXT, "how many tokens to generate (default 200)"},
	{"samples", "N", SAMPLES, INFERENCE | TEXT, "how many continuations, at most a batch (default 1)"},
	{"temperature", "X", TEMPERATURE, INFERENCE | TEXT, "divides the logits (default 1; 0: the likeliest token)"},
	{"top-k", "K", TOP_K, INFERENCE | TEXT, "only the K likeliest tokens"},
	{"steps", "N", STEPS, BOTH, "steps in all, those of a loaded checkpoint included"},
	{"seed", "N", SEED, BOTH, "of initial values, sample order, dropout and synthetic data (default 0)"},
	{"load", "PATH", LOAD, BOTH, "start from a checkpoint folder, a safetensors file or a folder of them"},
	{"allow-missing", NULL, ALLOW_MISSING, BOTH, "tensors that --load lacks keep their initial values"},
	{"allow-unused", NULL, ALLOW_UNUSED, BOTH, "tensors of --load that the model has not are left alone"},
	{"allow-mismatched", NULL, ALLOW_MISMATCHED, BOTH, "tensors that --load has in another shape keep their initial values"},
	{"save", "DIR", SAVE, TRAINING, "write a checkpoint DIR/step_N after the last step"},
	{"save-every", "N", SAVE_EVERY, TRAINING, "write one every N steps as well"},
	{"max-shard-size", "N", MAX_SHARD_SIZE, TRAINING, "split saved weights into files of at most N bytes (500MB, 5GB)"},
	{"order", "ORDER", ORDER, TRAINING, "of samples: shuffled (default) or file"},
	{"output", "FILE", OUTPUT, INFERENCE, "write the outputs to this safetensors file"},
	{"log", "FILE", LOG, TRAINING, "append a JSON object per step and evaluation (the file starts empty)"},
	{"log-every", "N", LOG_EVERY, TRAINING, "report every Nth step only"},
	{"trace", "FILE", TRACE, BOTH, "write a Chrome trace (chrome://tracing, Perfetto)"},
	{"tune", "FILE", TUNE, BOTH, "matrix products by the fastest algorithms, timed at start and kept in this file"},
	{"one-gpu", NULL, ONE_GPU, BOTH, "put all ranks of this machine on one GPU (slow; for tests)"},
	{"no-copy-engines", NULL, NO_COPY_ENGINES, BOTH, "leave messages and large collectives within a machine to NCCL"},
	{"timeout", "SECONDS", TIMEOUT, BOTH, "give up when nothing moves for so long (default 600)"},
	{"help", NULL, HELP, BOTH, "print this and exit"},
};
enum { ROWS = sizeof rows / sizeof *rows };

static bool applies(const struct row *row, const struct mp_model *model)
{
	int mode = row->mode & MODES;
	if (row->mode & TEXT && model->data != MP_DATA_TOKENS)
		return false;
	return mode == BOTH || (mode == TRAINING) == model->training;
}

static void print_help(const struct mp_model *model)
{
	printf("Usage: %s [options]\n", model->name);
	printf("%s the model %s on %d rank%s (dp=%d, tp=%d, pp=%d), %d samples a step.\n\nOptions:\n",
	       model->training ? "Trains" : "Runs", model->name,
	       model->axis[MP_DP] * model->axis[MP_TP] * model->axis[MP_PP],
	       model->axis[MP_DP] * model->axis[MP_TP] * model->axis[MP_PP] == 1 ? "" : "s",
	       model->axis[MP_DP], model->axis[MP_TP], model->axis[MP_PP], model->batch);
	for (int i = 0; i < ROWS; i++) {
		if (!applies(&rows[i], model))
			continue;
		char left[64];
		snprintf(left, sizeof left, "--%s %s", rows[i].name, rows[i].argument ? rows[i].argument : "");
		printf("  %-20s %s\n", left, rows[i].help);
	}
	printf("\nExit status: 0 done, 1 wrong input, 2 usage, 3 CUDA or NCCL, 4 input/output, 5 ranks do not match,\n"
	       "6 another rank failed or timed out, 7 loss not finite.\n");
}

// Edits (insert, delete, replace) between two short words.
static int distance(const char *a, const char *b)
{
	int row[32];
	int n = (int)strlen(b);

	if (n > 30)
		return INT_MAX;
	for (int j = 0; j <= n; j++)
		row[j] = j;
	for (int i = 1; a[i - 1]; i++) {
		int diagonal = row[0];
		row[0] = i;
		for (int j = 1; j <= n; j++) {
			int replace = diagonal + (a[i - 1] != b[j - 1]);
			int edit = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			diagonal = row[j];
			row[j] = replace < edit ? replace : edit;
		}
	}
	return row[n];
}

MP_NORETURN static void refuse_unknown(const char *word, const struct mp_model *model)
{
	char name[32] = "";
	const struct row *nearest = NULL;
	int best = 4;

	snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word + strspn(word, "-"));
	name[strcspn(name, "=")] = '\0';
	for (int i = 0; i < ROWS; i++) {
		int d = applies(&rows[i], model) ? distance(name, rows[i].name) : INT_MAX;
		if (d < best) {
			best = d;
			nearest = &rows[i];
		}
	}
	if (nearest)
		mp_fail(MP_USAGE, "unknown option %s; did you mean --%s? (--help lists all)", word, nearest->name);
	mp_fail(MP_USAGE, "unknown option %s (--help lists all)", word);
}

static long number(const char *option, const char *text, long low, long high)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < low || value > high)
		mp_fail(MP_USAGE, "--%s needs a whole number from %ld%s, not \"%s\"", option, low,
		        high == LONG_MAX ? " on" : " to 2147483647", text);
	return value;
}

static uint64_t seed_number(const char *text)
{
	char *end;
	errno = 0;
	uint64_t value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		mp_fail(MP_USAGE, "--seed needs a whole number from 0 to 18446744073709551615, not \"%s\"", text);
	return value;
}

// Bytes, or thousands, millions or thousands of millions of them: "5GB", as Hugging Face's save_pretrained takes it.
static uint64_t byte_size(const char *option, const char *text)
{
	static const struct { const char *name; uint64_t bytes; } units[] = {
		{"", 1}, {"B", 1}, {"KB", 1000}, {"MB", 1000 * 1000}, {"GB", 1000 * 1000 * 1000},
	};
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	for (size_t i = 0; i < sizeof units / sizeof *units && !errno && end != text && value > 0; i++)
		if (!strcmp(end, units[i].name) && (uint64_t)value <= UINT64_MAX / units[i].bytes)
			return (uint64_t)value * units[i].bytes;
	mp_fail(MP_USAGE, "--%s needs a size such as 500MB or 5GB, not \"%s\"", option, text);
}

static double real_number(const char *option, const char *text, double low, double high)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end || !(value >= low && value <= high))
		mp_fail(MP_USAGE, "--%s needs a number from %g to %g, not \"%s\"", option, low, high, text);
	return value;
}

static enum mp_order order_of(const char *text, const struct mp_model *model)
{
	bool tokens = model->data == MP_DATA_TOKENS;
	if (tokens && !strcmp(text, "random"))
		return MP_RANDOM;
	if (strcmp(text, "shuffled") && strcmp(text, "file"))
		mp_fail(MP_USAGE, "--order is %sshuffled or file, not \"%s\"", tokens ? "random, " : "", text);
	return strcmp(text, "file") ? MP_SHUFFLED : MP_FILE_ORDER;
}

// Of those that tell modes apart.
MP_NORETURN static void refuse_mode(const struct row *row, const struct mp_model *model)
{
	if (row->mode & TEXT && model->data != MP_DATA_TOKENS)
		mp_fail(MP_USAGE, "--%s is for programs whose spec declares mp.tokens", row->name);
	mp_fail(MP_USAGE, "--%s is for %s programs; this one was generated with --mode %s", row->name,
	        (row->mode & MODES) == TRAINING ? "training" : "inference", model->training ? "train" : "infer");
}

static void take_option(struct mp_options *o, const struct row *row, const char *argument, const struct mp_model *model)
{
	if (!applies(row, model))
		refuse_mode(row, model);
	if (argument && !*argument)
		mp_fail(MP_USAGE, "--%s needs a %s, not an empty word", row->name, row->argument);
	switch (row->id) {
	case DATA: o->data = argument; break;
	case SPLIT: o->split = real_number(row->name, argument, 0.001, 0.999); break;
	case EVAL: o->eval = argument; break;
	case EVAL_BATCHES: o->eval_batches = number(row->name, argument, 1, LONG_MAX); break;
	case PROMPT: o->prompt = argument; break;
	case TOKENS: o->tokens = number(row->name, argument, 1, INT_MAX); break;
	case SAMPLES: o->samples = number(row->name, argument, 1, INT_MAX); break;
	case TEMPERATURE: o->temperature = real_number(row->name, argument, 0, 1000); break;
	case TOP_K: o->top_k = number(row->name, argument, 1, INT_MAX); break;
	case EVAL_EVERY: o->eval_every = number(row->name, argument, 1, LONG_MAX); break;
	case STEPS: o->steps = number(row->name, argument, 0, LONG_MAX); break;
	case SEED: o->seed = seed_number(argument); break;
	case LOAD: o->load = argument; break;
	case ALLOW_MISSING: o->allow |= MP_ALLOW_MISSING; break;
	case ALLOW_UNUSED: o->allow |= MP_ALLOW_UNUSED; break;
	case ALLOW_MISMATCHED: o->allow |= MP_ALLOW_MISMATCHED; break;
	case SAVE: o->save = argument; break;
	case SAVE_EVERY: o->save_every = number(row->name, argument, 1, LONG_MAX); break;
	case MAX_SHARD_SIZE: o->max_shard_size = byte_size(row->name, argument); break;
	case ORDER: o->order = order_of(argument, model); break;
	case OUTPUT: o->output = argument; break;
	case LOG: o->log = argument; break;
	case LOG_EVERY: o->log_every = number(row->name, argument, 1, LONG_MAX); break;
	case TRACE: o->trace = argument; break;
	case TUNE: o->tune = argument; break;
	case ONE_GPU: o->one_gpu = true; break;
	case NO_COPY_ENGINES: o->nccl_alone = true; break;
	case TIMEOUT: o->timeout = (int)number(row->name, argument, 1, INT_MAX); break;
	case HELP: print_help(model); exit(MP_DONE);
	}
}

// Whether inference computes a loss, so that it can score data.
static bool has_metrics(const struct mp_model *model)
{
	for (int stage = 0; stage < model->axis[MP_PP]; stage++)
		if (model->program(stage)->metric_count)
			return true;
	return false;
}

static void check_prompt(struct mp_options *o, const struct mp_model *model)
{
	if (!o->prompt && (o->tokens || o->samples || o->top_k || o->temperature >= 0))
		mp_fail(MP_USAGE, "--%s needs --prompt TEXT", o->tokens ? "tokens" : o->samples ? "samples" : o->top_k ? "top-k" :
		        "temperature");
	if (o->prompt && (o->data || o->split > 0 || o->output || o->steps >= 0))
		mp_fail(MP_USAGE, "--prompt generates text: it does not go with --%s", o->data ? "data, which it would score" :
		        o->split > 0 ? "split" : o->output ? "output" : "steps; --tokens says how many");
	if (o->samples > model->batch)
		mp_fail(MP_USAGE, "--samples %ld: this program computes %d at once; generate it with --batch %ld for more",
		        o->samples, model->batch, o->samples);
	o->tokens = o->tokens ? o->tokens : 200;
	o->samples = o->samples ? o->samples : 1;
	o->temperature = o->temperature >= 0 ? o->temperature : 1;
}

static void check_data(struct mp_options *o, const struct mp_model *model)
{
	bool tokens = model->data == MP_DATA_TOKENS;
	if (!o->data && !o->prompt)
		mp_fail(MP_USAGE, "--data is missing: a %s, a safetensors file, or \"synthetic\"%s", tokens ? "file of text or token ids" :
		        "folder of IDX files", tokens && !model->training ? "; or --prompt TEXT to generate" : "");
	if (o->split > 0 && o->eval)
		mp_fail(MP_USAGE, "--split keeps a part of --data to evaluate on, and --eval names other data: give one of them");
	if (o->split > 0 && model->training)
		o->eval = o->data;
	if (!model->training && !o->output && !o->prompt && !(tokens && has_metrics(model)))
		mp_fail(MP_USAGE, "--output is missing: the safetensors file to write the outputs to");
}

// Options that mean nothing without another.
static void check_together(struct mp_options *o, const struct mp_model *model)
{
	check_prompt(o, model);
	check_data(o, model);
	if (o->eval_every && !o->eval)
		mp_fail(MP_USAGE, "--eval-every needs --eval PATH, the data to evaluate on");
	if (o->eval_batches && !o->eval)
		mp_fail(MP_USAGE, "--eval-batches needs --eval PATH, the data to evaluate on");
	if (o->save_every && !o->save)
		mp_fail(MP_USAGE, "--save-every needs --save DIR, where to write");
	if (o->allow && !o->load)
		mp_fail(MP_USAGE, "--allow-%s needs --load PATH", o->allow & MP_ALLOW_MISSING ? "missing" :
		        o->allow & MP_ALLOW_UNUSED ? "unused" : "mismatched");
	if (o->max_shard_size && !o->save)
		mp_fail(MP_USAGE, "--max-shard-size needs --save DIR, where to write");
}

void mp_options_parse(struct mp_options *options, const struct mp_model *model, int argc, char **argv)
{
	struct option table[ROWS + 1] = {{0}};
	int id;

	*options = (struct mp_options){.steps = -1, .log_every = 1, .order = MP_RANDOM, .temperature = -1, .timeout = 600};
	for (int i = 0; i < ROWS; i++)
		table[i] = (struct option){rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, rows[i].id};
	opterr = 0;
	for (;;) {
		int at = optind;
		id = getopt_long(argc, argv, "+:", table, NULL);
		if (id == -1)
			break;
		const char *word = argv[at];
		if (id == ':')
			mp_fail(MP_USAGE, "%s needs an argument (--help)", word);
		const struct row *row = NULL;
		for (int i = 0; i < ROWS; i++)
			if ((int)rows[i].id == id)
				row = &rows[i];
		if (!row && optopt >= DATA)
			mp_fail(MP_USAGE, "%.*s takes no argument (--help)", (int)strcspn(word, "="), word);
		if (!row)
			refuse_unknown(word, model);
		take_option(options, row, optarg, model);
	}
	if (optind < argc)
		mp_fail(MP_USAGE, "what is \"%s\"? Every argument belongs to an option (--help)", argv[optind]);
	check_together(options, model);
}
