// options.c: mpgen's command line. Every option of the design is known; what is not built yet is refused by name.
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emit/emit.h"

static const char usage[] =
	"usage: mpgen [options] SPEC.lua -o DIR\n"
	"  -o, --output DIR         where the program is written (created; only files that the previous\n"
	"                           manifest lists are ever overwritten or removed)\n"
	"  -D, --define NAME=VALUE  set an option that the spec declares with mp.option\n"
	"      --mesh AXES          e.g. dp=2,tp=2,pp=2; replaces the spec's mesh; \"1\" is one device\n"
	"      --device NAME|FILE   h100 (default), h200, a100-80g, cpu, or a JSON file\n"
	"      --batch N            samples a step over all devices\n"
	"      --microbatches N     for each replica: a micro-batch holds batch / (dp * microbatches) samples\n"
	"      --schedule NAME      1F1B (default) or GPipe\n"
	"      --zero STAGE         0 (default): every replica stores all parameters and states of the optimizer; 1: a part of\n"
	"                           them, updates that, and gathers what a step computes with\n"
	"      --gradients TYPE     f32 (default) or bf16: with --dtype bf16 and one micro-batch, a matrix's gradient that one\n"
	"                           product makes is rounded as it is stored, and reduced so; all else stays f32\n"
	"      --recompute KIND     what the backward pass makes again in place of keeping it: none (default), selective\n"
	"                           (norms, activations and the like), full (of every mp.block all but what comes in);\n"
	"                           both gather again what tp has split by positions\n"
	"      --sequence-parallel  between tensor-parallel layers, tp splits the positions of a sequence\n"
	"      --deterministic      the same bits in every run on a GPU, also from attention in bf16, whose gradient is faster\n"
	"                           without; everything else, and all of the host build, always gives the same bits\n"
	"      --trace-steps        --trace of the program shows each step of a micro-batch beside its predicted time\n"
	"      --dtype TYPE         f32 (default), tf32 (f32 with TF32 matrix products), bf16 (with f32 master weights),\n"
	"                           f64 (host build only)\n"
	"      --mode MODE          train (default) or infer\n"
	"      --explain[=json]     print the plan, write nothing\n"
	"      --check              exit 5 with a diff when DIR is not what would be emitted now\n"
	"      --ignore-version     with --check: not for a new mpgen version alone\n"
	"      --templates DIR      use these templates instead of the built-in ones\n"
	"      --dump PASS          print the graph or plan after that pass\n"
	"  -q, --quiet              no warnings\n"
	"  -h, --help   --version\n"
	"Exit status: 0 done, 1 error in the spec, 2 usage, 3 the plan does not fit the devices,\n"
	"4 an input/output error, 5 stale, 70 a bug in mpgen.\n";

enum { OPT_MESH = 256, OPT_DEVICES, OPT_DEVICE, OPT_BATCH, OPT_MICROBATCHES, OPT_SCHEDULE, OPT_ZERO, OPT_GRADIENTS, OPT_RECOMPUTE, OPT_OFFLOAD, OPT_DTYPE,
       OPT_SEQUENCE_PARALLEL, OPT_DETERMINISTIC, OPT_TRACE_STEPS, OPT_MODE, OPT_EXPLAIN, OPT_CHECK, OPT_IGNORE_VERSION, OPT_TEMPLATES, OPT_DUMP, OPT_VERSION };

static const struct option long_options[] = {
	{"output", required_argument, NULL, 'o'}, {"define", required_argument, NULL, 'D'}, {"mesh", required_argument, NULL, OPT_MESH},
	{"devices", required_argument, NULL, OPT_DEVICES}, {"device", required_argument, NULL, OPT_DEVICE}, {"batch", required_argument, NULL, OPT_BATCH},
	{"microbatches", required_argument, NULL, OPT_MICROBATCHES}, {"schedule", required_argument, NULL, OPT_SCHEDULE},
	{"zero", required_argument, NULL, OPT_ZERO}, {"gradients", required_argument, NULL, OPT_GRADIENTS}, {"recompute", required_argument, NULL, OPT_RECOMPUTE}, {"offload", required_argument, NULL, OPT_OFFLOAD},
	{"dtype", required_argument, NULL, OPT_DTYPE}, {"sequence-parallel", no_argument, NULL, OPT_SEQUENCE_PARALLEL},
	{"deterministic", no_argument, NULL, OPT_DETERMINISTIC}, {"trace-steps", no_argument, NULL, OPT_TRACE_STEPS}, {"mode", required_argument, NULL, OPT_MODE}, {"explain", optional_argument, NULL, OPT_EXPLAIN},
	{"check", no_argument, NULL, OPT_CHECK}, {"ignore-version", no_argument, NULL, OPT_IGNORE_VERSION}, {"templates", required_argument, NULL, OPT_TEMPLATES},
	{"dump", required_argument, NULL, OPT_DUMP}, {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPT_VERSION}, {NULL, 0, NULL, 0}};

static long positive(const char *option, const char *text)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || *end || end == text || value < 1 || value > 1L << 30)
		fail(EXIT_USAGE, "--%s takes a positive number, not '%s'", option, text);
	return value;
}

// The index of text among the choices, or an error that names them.
static int choice(const char *option, const char *text, const char *const *choices, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(text, choices[i]))
			return i;
	const char *near = nearest_name(text, choices, count);
	if (near)
		fail(EXIT_USAGE, "--%s: unknown '%s': did you mean '%s'?", option, text, near);
	char known[256] = "";
	for (int i = 0, length = 0; i < count && length < (int)sizeof known; i++)
		length += snprintf(known + length, sizeof known - (size_t)length, "%s%s", i ? ", " : "", choices[i]);
	fail(EXIT_USAGE, "--%s: unknown '%s'\nknown: %s", option, text, known);
}

_Noreturn static void not_built(const char *option, const char *value, const char *works)
{
	fail(EXIT_USAGE, "--%s%s%s is not built yet\n%s", option, value ? " " : "", value ? value : "", works);
}

static void choose_dtype(Options *options, const char *text)
{
	static const char *const names[] = {"f32", "tf32", "f64", "bf16"};
	int type = choice("dtype", text, names, 4);
	static const Type types[] = {TYPE_F32, TYPE_F32, TYPE_F64, TYPE_BF16};
	options->spec.real = types[type];
	options->tf32 = type == 1;
}

static void choose_schedule(Options *options, const char *text)
{
	static const char *const names[] = {"GPipe", "1F1B", "Interleaved1F1B", "ZB1P", "ZBV"};
	if (!strncmp(text, "Interleaved1F1B", 15) || strchr(text, '.'))
		not_built("schedule", text, "GPipe and 1F1B work");
	int kind = choice("schedule", text, names, 5);
	if (kind > 1)
		not_built("schedule", text, "GPipe and 1F1B work");
	options->schedule = kind == 0 ? SCHEDULE_GPIPE : SCHEDULE_1F1B;
}

static void choose_zero(Options *options, const char *text)
{
	static const char *const stages[] = {"0", "1", "2", "3"};
	int stage = choice("zero", text, stages, 4);
	if (stage > 1)
		not_built("zero", text, "--zero 0 and --zero 1 work");
	options->zero = stage == 1;
}

static void choose_later(int option, const char *value)
{
	static const struct { int option; const char *name, *harmless, *works; } later[] = {
		{OPT_OFFLOAD, "offload", "none", "--offload none works"},
		{OPT_DEVICES, "devices", NULL, "name the mesh: --mesh dp=2,tp=2,pp=2"}};
	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		if (later[i].option == option && !(value && later[i].harmless && !strcmp(value, later[i].harmless)))
			not_built(later[i].name, value, later[i].works);
}

static void apply(Arena *arena, Options *options, int option, const char *value)
{
	static const char *const modes[] = {"train", "infer"}, *const forms[] = {"json", "text"}, *const recomputes[] = {"none", "selective", "full"},
	                         *const gradients[] = {"f32", "bf16"};
	switch (option) {
	case 'o': options->output = value; break;
	case 'D': list_add(arena, &options->spec.defines, value); break;
	case 'q': diagnostics_quiet(true); break;
	case OPT_MESH:
		if (!strcmp(value, "auto"))
			not_built("mesh", value, "name the axes: --mesh dp=2,tp=2,pp=2");
		options->spec.mesh = value;
		break;
	case OPT_DEVICE: options->device = find_device(arena, value); break;
	case OPT_BATCH: options->spec.batch = positive("batch", value); break;
	case OPT_MICROBATCHES: options->spec.microbatches = (int)positive("microbatches", value); break;
	case OPT_SCHEDULE: choose_schedule(options, value); break;
	case OPT_SEQUENCE_PARALLEL: options->spec.sequence_parallel = true; break;
	case OPT_ZERO: choose_zero(options, value); break;
	case OPT_GRADIENTS: options->rounded = choice("gradients", value, gradients, 2) == 1; break;
	case OPT_DTYPE: choose_dtype(options, value); break;
	case OPT_RECOMPUTE: options->recompute = choice("recompute", value, recomputes, 3); break;
	case OPT_MODE: options->spec.training = choice("mode", value, modes, 2) == 0; break;
	case OPT_EXPLAIN:
		options->explain = true;
		options->explain_json = value && choice("explain", value, forms, 2) == 0;
		break;
	case OPT_CHECK: options->check = true; break;
	case OPT_IGNORE_VERSION: options->ignore_version = true; break;
	case OPT_TEMPLATES: options->templates = value; break;
	case OPT_DUMP: options->dump = value; break;
	case OPT_DETERMINISTIC: options->deterministic = true; break;
	case OPT_TRACE_STEPS: options->trace_steps = true; break;
	case 'h': fputs(usage, stdout); exit(EXIT_DONE);
	case OPT_VERSION: puts("mpgen " MPGEN_VERSION); exit(EXIT_DONE);
	default: choose_later(option, value);
	}
}

// result: of getopt_long; word: where it stopped.
_Noreturn static void refuse_option(int result, const char *word)
{
	const char *names[sizeof long_options / sizeof *long_options];
	int count = 0;
	for (const struct option *o = long_options; o->name; o++)
		names[count++] = o->name;
	int length = (int)strcspn(word, "=");
	if (result == ':')
		fail(EXIT_USAGE, "%s needs a value\nmpgen --help lists the options", word);
	if (optopt && word[1] == '-')
		fail(EXIT_USAGE, "%.*s takes no value\nmpgen --help lists the options", length, word);
	if (optopt)
		fail(EXIT_USAGE, "unknown option '-%c'\nmpgen --help lists the options", optopt);
	char name[64];
	snprintf(name, sizeof name, "%.*s", length > 2 ? length - 2 : 0, word + 2);
	const char *near = nearest_name(name, names, count);
	fail(EXIT_USAGE, "unknown option '%.*s'%s%s%s\nmpgen --help lists the options", length, word, near ? ": did you mean '--" : "",
	     near ? near : "", near ? "'?" : "");
}

static void check_options(const Options *options, const char *const *passes, int pass_count)
{
	if (options->dump)
		choice("dump", options->dump, passes, pass_count);
	if (!options->output && !options->explain && !options->dump)
		fail(EXIT_USAGE, "no output folder: mpgen %s -o DIR", options->spec.file);
	if (options->ignore_version && !options->check)
		fail(EXIT_USAGE, "--ignore-version goes with --check");
	if (options->rounded && options->spec.real != TYPE_BF16)
		fail(EXIT_USAGE, "--gradients bf16 goes with --dtype bf16");
}

Options read_options(Arena *arena, int argc, char **argv, const char *const *passes, int pass_count)
{
	Options options = {.spec = {.real = TYPE_F32, .training = true}, .schedule = SCHEDULE_1F1B};
	options.device = find_device(arena, "h100");
	opterr = 0;
	for (;;) {
		int option = getopt_long(argc, argv, ":o:D:qh", long_options, NULL);
		if (option == -1)
			break;
		if (option == '?' || option == ':')
			refuse_option(option, argv[optind - 1]);
		apply(arena, &options, option, optarg);
	}
	if (optind + 1 != argc)
		fail(EXIT_USAGE, "%s\nusage: mpgen [options] SPEC.lua -o DIR; mpgen --help lists the options",
		     optind == argc ? "no spec was named" : "more than one spec was named");
	options.spec.file = argv[optind];
	check_options(&options, passes, pass_count);
	return options;
}

Plan *start_plan(Arena *arena, const Spec *spec, const Options *options)
{
	Plan *plan = arena_alloc(arena, sizeof *plan);
	*plan = (Plan){.arena = arena, .graph = spec->graph, .location = spec->location, .schedule = options->schedule, .tf32 = options->tf32, .deterministic = options->deterministic,
	               .zero = options->zero && spec->graph->training, .rounded = options->rounded && spec->graph->training, .recompute = options->recompute, .device = options->device};
	memcpy(plan->mesh, spec->mesh, sizeof plan->mesh);
	return plan;
}

const char *describe_options(Arena *arena, const Spec *spec, const Plan *plan, bool trace_steps)
{
	Text text = {.arena = arena};
	text_add(&text, "mesh dp=%d,tp=%d,pp=%d batch %ld microbatches %d schedule %s dtype %s mode %s", plan->mesh[AXIS_DP], plan->mesh[AXIS_TP],
	         plan->mesh[AXIS_PP], plan->graph->batch, plan->mesh[AXIS_MICRO], plan->schedule == SCHEDULE_GPIPE ? "GPipe" : "1F1B",
	         plan->tf32 ? "tf32" : type_name(plan->graph->real), plan->graph->training ? "train" : "infer");
	if (spec->sequence_parallel)
		text_add(&text, " sequence-parallel");
	if (plan->recompute != RECOMPUTE_NONE)
		text_add(&text, " recompute %s", plan->recompute == RECOMPUTE_FULL ? "full" : "selective");
	if (plan->zero)
		text_add(&text, " zero 1");
	if (plan->rounded)
		text_add(&text, " gradients bf16");
	if (plan->deterministic && plan->graph->real == TYPE_BF16) // elsewhere it changes nothing
		text_add(&text, " deterministic");
	if (trace_steps)
		text_add(&text, " trace-steps");
	for (int i = 0; i < spec->options.count; i++)
		text_add(&text, " -D %s", spec->options.at[i]);
	return text.at;
}

void pass_layout(Plan *plan)
{
	layout_images(plan->graph);
}

void pass_differentiate(Plan *plan)
{
	differentiate(plan->graph);
}

void dump_plan_graph(const Plan *plan, Text *out)
{
	dump_graph(plan->graph, out);
}
