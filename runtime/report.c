// What a run tells: a line per step on stdout (one line that is rewritten, on a terminal) and a JSON object per step in
// the --log file. One rank reports: the first that has the metrics. Numbers in the log have enough digits to
// restore the float exactly; JSON has no NaN, so what is not finite becomes null.
#define _GNU_SOURCE
#include "mp_run.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mp_report {
	FILE *log;                      // NULL: no --log
	const char *path;
	bool terminal, line_open;       // a progress line waits to be rewritten
	long steps;                     // since the last report
	double seconds;                 // they took
};

bool mp_metric_is_count(const struct mp_program *p, int i)
{
	for (int j = 0; j < p->metric_count; j++)
		if (p->metrics[j].count == i)
			return true;
	return false;
}

double mp_metric_value(const struct mp_rank *r, int i)
{
	return r->model->type == MP_F64 ? ((const double *)r->metrics)[i] : ((const float *)r->metrics)[i];
}

bool mp_reports(const struct mp_rank *r)
{
	if (r->dp || r->tp)
		return false;
	for (int stage = 0; stage < r->pp; stage++)
		if (r->model->program(stage)->metric_count)
			return false;
	return r->program->metric_count > 0;
}

// Digits that restore a value of the model's type.
static int digits(const struct mp_rank *r)
{
	return r->model->type == MP_F64 ? 17 : 9;
}

struct mp_report *mp_report_open(struct mp_rank *r)
{
	if (!mp_reports(r))
		return NULL;
	struct mp_report *p = mp_allocate(sizeof *p);
	p->terminal = isatty(STDOUT_FILENO);
	p->path = r->options->log;
	if (p->path && !(p->log = fopen(p->path, "w")))
		mp_fail(MP_IO_FAILED, "--log: cannot write %s: %s", p->path, strerror(errno));
	return p;
}

static void end_line(struct mp_report *p)
{
	if (p->line_open)
		putchar('\n');
	p->line_open = false;
}

void mp_report_close(struct mp_report *p)
{
	if (!p)
		return;
	end_line(p);
	fflush(stdout);
	if (p->log && fclose(p->log))
		mp_fail(MP_IO_FAILED, "--log: cannot write %s: %s", p->path, strerror(errno));
	free(p);
}

void mp_report_note(struct mp_report *p, const char *format, ...)
{
	va_list arguments;

	end_line(p);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

static void log_number(struct mp_report *p, const char *prefix, const char *name, double value, int digits)
{
	if (isfinite(value))
		fprintf(p->log, ",\"%s%s\":%.*g", prefix, name, digits, value);
	else
		fprintf(p->log, ",\"%s%s\":null", prefix, name);
}

static void end_object(struct mp_report *p)
{
	fputs("}\n", p->log);
	if (fflush(p->log))
		mp_fail(MP_IO_FAILED, "--log: cannot write %s: %s", p->path, strerror(errno));
}

// The metrics that a training step reports.
static bool of_training(const struct mp_program *p, int i)
{
	return !p->metrics[i].evaluation && !mp_metric_is_count(p, i);
}

static double tokens_of_a_step(const struct mp_rank *r)
{
	return (double)r->model->batch * (double)r->model->inputs[0].shape[0];
}

static void log_step(struct mp_report *p, struct mp_rank *r, double rate, double seconds)
{
	fprintf(p->log, "{\"step\":%ld", r->step);
	for (int i = 0; i < r->program->metric_count; i++)
		if (of_training(r->program, i))
			log_number(p, "", r->program->metrics[i].name, mp_metric_value(r, i), digits(r));
	log_number(p, "", "lr", rate, digits(r));
	log_number(p, "", "step_ms", seconds * 1000, 6);
	log_number(p, "", "samples_per_s", r->model->batch / seconds, 6);
	if (r->model->data == MP_DATA_TOKENS)
		log_number(p, "", "tokens_per_s", tokens_of_a_step(r) / seconds, 6);
	end_object(p);
}

static void print_step(struct mp_report *p, struct mp_rank *r, double rate, double seconds)
{
	if (p->terminal)
		fputs("\r\033[K", stdout);
	printf("step %ld/%ld", r->step, r->steps);
	for (int i = 0; i < r->program->metric_count; i++)
		if (of_training(r->program, i))
			printf("  %s %.6g", r->program->metrics[i].name, mp_metric_value(r, i));
	bool tokens = r->model->data == MP_DATA_TOKENS;
	printf("  lr %.4g  %.2f ms  %.0f %s/s", rate, seconds * 1000, (tokens ? tokens_of_a_step(r) : r->model->batch) / seconds,
	       tokens ? "tokens" : "samples");
	if (!p->terminal)
		putchar('\n');
	p->line_open = p->terminal;
	fflush(stdout);
}

static void check_loss(struct mp_report *p, const struct mp_rank *r)
{
	for (int i = 0; i < r->program->metric_count; i++) {
		double value = mp_metric_value(r, i);
		if (strcmp(r->program->metrics[i].name, "loss") || isfinite(value))
			continue;
		end_line(p);
		mp_fail(MP_NOT_FINITE, "the loss is %s at step %ld: try a lower learning rate, or warm-up", isnan(value) ? "NaN" :
		        "infinite", r->step);
	}
}

void mp_report_step(struct mp_report *p, struct mp_rank *r, double seconds)
{
	p->steps++;
	p->seconds += seconds;
	check_loss(p, r);
	if (r->step % r->options->log_every && r->step != r->steps)
		return;
	double rate = mp_learning_rate_at(&r->model->learning_rate, r->step - 1, r->steps);
	double mean = p->seconds / (double)p->steps;
	print_step(p, r, rate, mean);
	if (p->log)
		log_step(p, r, rate, mean);
	p->steps = 0;
	p->seconds = 0;
}

void mp_report_evaluation(struct mp_report *p, struct mp_rank *r, const double *value, const bool *use)
{
	end_line(p);
	printf("step %ld", r->step);
	for (int i = 0; i < r->program->metric_count; i++)
		if (use[i])
			printf("  eval_%s %.6g", r->program->metrics[i].name, value[i]);
	putchar('\n');
	fflush(stdout);
	if (!p->log)
		return;
	fprintf(p->log, "{\"step\":%ld", r->step);
	for (int i = 0; i < r->program->metric_count; i++)
		if (use[i])
			log_number(p, "eval_", r->program->metrics[i].name, value[i], digits(r));
	end_object(p);
}
