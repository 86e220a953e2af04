// mp_run.h: the runs of an emitted program: what its main.c calls, and what the runtime's own files share.
//
// Life of a program: mp_main reads the options, finds out which ranks it is (launch.c), joins them to the others
// (control.c), gives each its device, arena, streams and communicators (rank.c) and calls the program's body, once
// for each rank of the process. The body is the training or inference loop, in the program's main.c.
#ifndef MP_RUN_H
#define MP_RUN_H

#include "mp.h"
#include "mp_data.h"

// ---------------------------------------------------------------------------------------------------------
// Options of an emitted program. Steps count from 1 for the user: "step 5" means that 5 steps are done.

struct mp_options {
	const char *data, *eval;        // --data, --eval: a path or "synthetic"; NULL: none. With --split eval is data
	double split;                   // --split: the part of the tokens before it trains; 0: not given
	const char *load, *save;        // --load, --save
	const char *output;             // --output of inference
	const char *log, *trace;        // --log, --trace
	const char *tune;               // --tune; NULL: the libraries' own choices
	long eval_every, save_every;    // 0: after the last step only
	long eval_batches;              // of an evaluation; 0: all
	long log_every;                 // 1 unless given
	long steps;                     // steps in all, those of a loaded checkpoint included; -1: not given
	uint64_t seed;                  // --seed; 0 unless given
	unsigned allow;                 // --allow-missing, --allow-unused, --allow-mismatched: enum mp_allow
	uint64_t max_shard_size;        // --max-shard-size in bytes; 0: weights are one file
	enum mp_order order;            // --order; MP_RANDOM unless given, which is MP_SHUFFLED for all but tokens
	const char *prompt;             // --prompt of inference; NULL: it runs on data
	long tokens, samples, top_k;    // --tokens to generate, --samples, --top-k (0: all)
	double temperature;             // 0: the likeliest
	bool one_gpu;                   // --one-gpu
	bool nccl_alone;                // --no-copy-engines
	int timeout;                    // --timeout in seconds; 600 unless given
};

// Reads the command line. Prints and exits by itself for --help (MP_DONE) and for mistakes (MP_USAGE).
void mp_options_parse(struct mp_options *options, const struct mp_model *model, int argc, char **argv);

// ---------------------------------------------------------------------------------------------------------
// The training loop (train.c, evaluate.c). Every rank calls the same functions in the same order.

// Initial values, then --load over them. Sets r->step, the steps already done, and r->steps, where to end; starts
// the loader and the log.
void mp_load(struct mp_rank *r);

// Whether another step is to run, or one that runs to be waited for: r->step < r->steps and nobody asked the run to end.
bool mp_more_steps(const struct mp_rank *r);

// Whether a step is to be enqueued before the next wait: the one behind r->step steps, and behind that, while it runs, one more, so that
// the device goes on without the host, unless something is due in between, or the host enqueues steps action by action.
bool mp_may_enqueue(const struct mp_rank *r);

// Puts the samples of the next step to enqueue into r->input, its learning rate into r->learning_rate, its key into r->random_key.
void mp_next_batch(struct mp_rank *r);

// Enqueues every action of a schedule, in order.
void mp_run(struct mp_rank *r, const struct mp_schedule *schedule);

// Waits for the first step that is enqueued to end, counts it in r->step, prints and logs its metrics, and agrees with the other ranks on
// whether to go on. Fails with MP_NOT_FINITE when the loss is.
void mp_report(struct mp_rank *r);

// Whether something that happens every `every` steps is due after r->step steps; never when every is 0.
bool mp_due(const struct mp_rank *r, long every);

// Evaluates on the --eval set and prints and logs the results. Does nothing without --eval or when the same step was
// evaluated already.
void mp_evaluate(struct mp_rank *r);

// Writes a checkpoint into the --save folder. Does nothing without --save or when the same step was saved already.
void mp_save(struct mp_rank *r);

// After the last step: evaluates unless interrupted, and saves.
void mp_finish(struct mp_rank *r);

// Learning rate of step `step` (from 0) of `steps`.
double mp_learning_rate_at(const struct mp_learning_rate *rate, long step, long steps);

// Means of metrics over several batches, each weighted by the labels that it counted (evaluate.c).
struct mp_sums *mp_sums_new(const struct mp_rank *r);
void mp_sums_free(struct mp_sums *sums);
// The batch that just ended, of r->loop->samples real samples.
void mp_sums_add(struct mp_sums *sums, const struct mp_rank *r);
// The mean of a metric; *weight becomes the number of labels that it is over (batches, where a metric counts none).
double mp_sums_mean(const struct mp_sums *sums, int metric, double *weight);

// ---------------------------------------------------------------------------------------------------------
// The inference loop (infer.c): mp_load, then for each batch mp_next_samples, mp_run, mp_take_results, then
// mp_finish_inference. A batch holds samples of the --data set or, with --prompt, what was generated so far.

// Puts the next batch into r->input, the last one of a data set padded; false after the last.
bool mp_next_samples(struct mp_rank *r);

// Waits for the batch to end and takes what it computed: outputs go to the --output file, losses of token data into the
// score, and of logits for a --prompt the next token is drawn.
void mp_take_results(struct mp_rank *r);

// Closes the output, prints the score or the generated text.
void mp_finish_inference(struct mp_rank *r);

// Generation (generate.c). The ids of --prompt, which is a file or text: bytes for a vocabulary of bytes, else numbers.
int32_t *mp_prompt_read(const struct mp_model *m, const char *prompt, long *count);
// Every rank calls these: room for the ids; their last window into r->input; a token for each sample, drawn from the
// step's logits on a rank that has them and handed to all; what is left to print.
struct mp_generation *mp_generation_new(struct mp_rank *r);
void mp_generation_window(struct mp_generation *g, struct mp_rank *r);
void mp_generation_draw(struct mp_generation *g, struct mp_rank *r);
void mp_generation_free(struct mp_generation *g, struct mp_rank *r);

// Both loops: mp_wait_and_vote waits for the step's end and counts it; mp_take_votes then learns whether to go on.
void mp_wait_and_vote(struct mp_rank *r);
void mp_take_votes(struct mp_rank *r);

// ---------------------------------------------------------------------------------------------------------
// What the ranks of one process share. Filled by mp_main before any rank starts, constant afterwards.

// Which rank this process is, and who said so.
struct mp_launch {
	const char *launcher;           // "torchrun", "Open MPI", "PMI", "Slurm"; NULL: started by hand
	int rank, world, local_rank;    // of the environment; by hand: 0, the mesh's size, 0
	char address[256];              // of rank 0's machine
	int port;                       // MASTER_PORT: taken; the control channel uses one of the next
};

struct mp_session {
	const struct mp_model *model;
	struct mp_options options;
	struct mp_launch launch;
	struct mp_dataset *data, *eval_data;    // NULL: not given
	int32_t *prompt;                        // ids of --prompt
	long prompt_count;
	int (*body)(struct mp_rank *r);
};

// launch.c: reads the environment; fails with MP_USAGE when variables are missing or wrong.
void mp_launch_find(struct mp_launch *launch, int mesh_size);
// Sets what NCCL reads from the environment, in a process that is one rank, before its first CUDA call. What the user
// has set stands.
void mp_launch_environment(const struct mp_options *options, int rank);

// cuda/local.c, host/local.c: starts all ranks on this machine, one forked process a rank (GPUs) or one thread a rank (host
// build), and returns the exit status of the run. run_rank opens, runs and closes one rank; sockets is what
// mp_control_open takes.
int mp_local_run(struct mp_session *s, int (*run_rank)(struct mp_session *s, int rank, const int *sockets));

// ---------------------------------------------------------------------------------------------------------
// The rank (rank.c).

// What a step reads and writes in the host's memory besides samples: r->learning_rate and so on point to those of one of two steps.
struct mp_words {
	void *learning_rate;
	int32_t *step_number, *random_key;
	void *metrics;
};

// Everything a rank keeps between steps of the loops, besides what struct mp_rank shows.
struct mp_loop {
	struct mp_loader *loader, *eval_loader;         // eval_loader is made at the first evaluation
	long eval_steps;                                // batches of an evaluation
	struct mp_generation *generation;               // inference with --prompt
	struct mp_sums *score;                          // inference on token data
	struct mp_output_writer *writer;                // of inference
	struct mp_words words[2];                       // by r->input_slot, as what follows
	cudaEvent_t ended[2];                           // behind the latest training step
	int enqueued;                                   // training steps that were not waited for
	long samples;                                   // real samples of the current batch
	long first_sample, total_samples;               // inference: of the current batch; of the whole output
	long evaluations;                               // done so far
	long evaluated, saved;                          // the step last evaluated or saved; -1: none
	double started, step_seconds;                   // mp_seconds when the step to wait for began; time of the last one
	bool vote_late;                                 // see train.c
	bool stopping;                                  // the ranks agreed to end
};

// Takes the device, allocates the arena, makes streams, events and communicators, prepares GEMMs, starts the watchdog.
// r->session, r->rank, r->world and r->control are set.
void mp_rank_open(struct mp_rank *r);
void mp_rank_close(struct mp_rank *r);

// Of an axis: the communicator, NULL where it has size 1; its stream; the rank's coordinate, 0 of MP_WHOLE.
static inline ncclComm_t mp_communicator(const struct mp_rank *r, enum mp_axis axis)
{
	return axis == MP_DP ? r->dp_comm : axis == MP_TP ? r->tp_comm : r->pp_comm;
}

static inline cudaStream_t mp_axis_stream(const struct mp_rank *r, enum mp_axis axis)
{
	return axis == MP_DP ? r->dp_stream : axis == MP_TP ? r->tp_stream : r->pp_stream;
}

static inline int mp_coordinate(const struct mp_rank *r, enum mp_axis axis)
{
	return axis == MP_DP ? r->dp : axis == MP_TP ? r->tp : axis == MP_PP ? r->pp : 0;
}

// The arena starts as zeros, so that padding that nothing writes is the same on every device; the program's constant comes when
// nothing is tried out in it any more. The workspace is left alone: it is large and nothing is read from it before it is written.
void mp_arena_clear(struct mp_rank *r);

// Points r->learning_rate and so on to the words of a slot.
void mp_take_words(struct mp_rank *r, int slot);

// Gives both slots the random key of what is not a training step, after r->step of these. (train.c)
void mp_set_random_keys(struct mp_rank *r);

// Waits until everything that r enqueued is done. A step is closed: it ends on the compute stream.
void mp_rank_wait(struct mp_rank *r);

// ---------------------------------------------------------------------------------------------------------
// The control channel (control.c, connect.c): a star around rank 0. mp_barrier and others are in mp_data.h.

// Joins rank `rank` to the others. By hand: sockets are given, for rank 0 one for each rank (sockets[0] unused), for
// others one, to rank 0. Under a launcher: sockets is NULL and TCP is used. Fails with MP_RANKS_DIFFER when build hash
// or world size differ.
struct mp_control *mp_control_open(const struct mp_session *s, int rank, const int *sockets);

// Says goodbye to the other ranks, waits for theirs, closes. The only way to end that is no failure.
void mp_control_close(struct mp_control *c);

// Collects n bytes of every rank: on rank 0, all + k * n holds those of rank k. `all` may be NULL elsewhere.
void mp_gather(struct mp_rank *r, const void *bytes, size_t n, void *all);

// mp_any in two halves, so that a step's wait for the device hides the messages' way: each rank votes, later asks for
// the bitwise or of all votes. No other message function may be called between the two.
void mp_vote(struct mp_rank *r, unsigned char flags);
unsigned char mp_voted(struct mp_rank *r);

// TCP (connect.c): sockets of the star as mp_control_open wants them, connected and checked.
void mp_connect(const struct mp_session *s, int *sockets);

// ---------------------------------------------------------------------------------------------------------
// Progress: what a rank is doing, for the watchdog and for traces.

// watchdog.c: a thread that ends the program with MP_PEER_FAILED when the rank is inside a step (between mp_watch_begin
// and mp_watch_end) for more than --timeout seconds, naming the actions that have not ended, and with
// MP_DEVICE_FAILED when NCCL reports an error.
struct mp_watch *mp_watch_open(struct mp_rank *r);
void mp_watch_close(struct mp_watch *w);
void mp_watch_begin(struct mp_watch *w);
void mp_watch_end(struct mp_watch *w);
// The action that the main thread is enqueueing now; NULL: it waits for the device.
void mp_watch_action(struct mp_watch *w, const char *action);

// cuda/marks.c, host/marks.c: a mark behind each action of a schedule on each stream of the rank, so that one can tell
// which action has not ended and, when timed, which ran when: actions, and the steps that mp_step_begin and mp_step_end enclose.
// Marks cost a microsecond each: see mp_run.
struct mp_marks *mp_marks_new(struct mp_rank *r, bool timed);
void mp_marks_free(struct mp_marks *m);
void mp_marks_start(struct mp_marks *m, const struct mp_schedule *schedule);    // before the first action
void mp_mark(struct mp_marks *m, int action);                                   // after actions[action] was enqueued
void mp_marks_stop(struct mp_marks *m);                                         // all ended, or this run is not marked
// Whether mp_run marks what it enqueues. A mark on each stream costs some microseconds of host time an action: nothing when steps are
// long, and the first step is where mistakes hang; short steps go unmarked unless they are traced.
static inline bool mp_worth_marking(const struct mp_rank *r)
{
	return r->trace || r->loop->step_seconds == 0 || r->loop->step_seconds > 0.05;
}
// Writes "0B0 on compute, 0RECV_B0 on pp": for each stream the first action that has not ended. Any thread may ask.
const char *mp_marks_pending(struct mp_marks *m, char *text, size_t size);
// Adds what ran since mp_marks_start to a trace. Timed only, and when all has ended.
void mp_marks_trace(struct mp_marks *m, struct mp_trace *t);

// cuda/graph.c, host/graph.c: whole steps as graphs. mp_graphs_run runs a schedule as one and returns true, or returns
// false, and the caller enqueues its actions. mp_graphs_ready: whether a run that reads the samples of this slot takes no longer to enqueue
// than a launch, and no marks of its own. Every rank decides alike. Freed before communicators are destroyed.
struct mp_graphs *mp_graphs_new(void);
bool mp_graphs_ready(struct mp_graphs *graphs, const struct mp_rank *r, const struct mp_schedule *schedule, int input_slot);
bool mp_graphs_run(struct mp_graphs *graphs, struct mp_rank *r, const struct mp_schedule *schedule);
void mp_graphs_free(struct mp_graphs *graphs, struct mp_rank *r);

// The streams that have work: fills stream[] and name[] (at most MP_STREAMS) and returns their number.
enum { MP_STREAMS = 5 };
int mp_streams(const struct mp_rank *r, cudaStream_t *stream, const char **name);

// trace.c: --trace. Every rank collects its part; closing is collective and writes one Chrome trace file on rank 0.
struct mp_trace *mp_trace_open(void);
// Something ran on a stream (0 compute, others as mp_streams lists them); seconds of mp_seconds. name is copied.
// predicted: seconds, or less than 0 where nothing was.
void mp_trace_add(struct mp_trace *t, const char *stream, const char *name, double begin, double end, double predicted);
void mp_trace_close(struct mp_trace *t, struct mp_rank *r, const char *file);

// ---------------------------------------------------------------------------------------------------------
// Reports (report.c): lines on stdout and in the --log file.

struct mp_report *mp_report_open(struct mp_rank *r);    // NULL on ranks that do not report
void mp_report_close(struct mp_report *p);
// One finished training step, which took `seconds`. r->metrics holds its values.
void mp_report_step(struct mp_report *p, struct mp_rank *r, double seconds);
// Results of an evaluation: value[i] of metric i where use[i].
void mp_report_evaluation(struct mp_report *p, struct mp_rank *r, const double *value, const bool *use);
// A line between progress lines.
void mp_report_note(struct mp_report *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Value of metric i in r->metrics, which has the model's type.
double mp_metric_value(const struct mp_rank *r, int i);
// Whether metric i is the count of another.
bool mp_metric_is_count(const struct mp_program *p, int i);
// Whether this rank prints and logs: the lowest of those whose program has metrics.
bool mp_reports(const struct mp_rank *r);

// ---------------------------------------------------------------------------------------------------------
// Small common things (fail.c, signals.c).

// Messages of this thread's failures begin with "rank N: ". Others begin with the program's name alone.
void mp_fail_name(const char *program, int rank);
// As mp_fail without a message.
MP_NORETURN void mp_end_process(enum mp_exit status);

// Makes SIGINT and SIGTERM set a flag; a second one ends the process.
void mp_signals_catch(void);
bool mp_signal_came(void);

double mp_seconds(void);                        // monotonic clock
void *mp_allocate(size_t bytes);                // zeroed host memory; fails instead of returning NULL
size_t mp_type_bytes(enum mp_type type);

// ---------------------------------------------------------------------------------------------------------
// GEMMs (cuda/gemm.c, host/gemm.c): chooses and keeps what mp_gemm needs for each of r->program->gemms.
void mp_gemm_prepare(struct mp_rank *r);
void mp_gemm_release(struct mp_rank *r);
// --tune (cuda/gemm_tune.c, host/gemm_tune.c), collective, behind mp_gemm_prepare: algorithms from the file, or, where there is none,
// the fastest, timed on zeros and numbers in the arena, which is clear again afterwards; then rank 0 writes the file.
void mp_gemm_tune(struct mp_rank *r);

// Convolutions (cuda/conv.c, host/conv.c): the same for mp_conv and r->program->convs.
void mp_conv_prepare(struct mp_rank *r);
void mp_conv_release(struct mp_rank *r);

// Attention (cuda/attention.c, cuda/attention_f32.cu, host/attention.c): the same for mp_attention and r->program->attentions.
void mp_attention_prepare(struct mp_rank *r);
void mp_attention_release(struct mp_rank *r);

#endif
