// devices.c: the emitted devices.c: the model's tables, and which program a rank runs.
#include "source.h"

void emit_devices(Text *out, const Emit *emit, const char *build)
{
	static const char *const data[] = {[DATA_IDX] = "MP_DATA_IDX", [DATA_TENSORS] = "MP_DATA_TENSORS", [DATA_TOKENS] = "MP_DATA_TOKENS"};
	const Plan *plan = emit->plan;
	static const char *const schedules[] = {[RATE_CONSTANT] = "MP_LR_CONSTANT", [RATE_LINEAR] = "MP_LR_LINEAR", [RATE_COSINE] = "MP_LR_COSINE"};
	const Optimizer *optimizer = &plan->graph->optimizer;
	emit_banner(out, emit);
	text_add(out, "// The mesh: dp=%d, tp=%d, pp=%d. Rank = (pp * %d + dp) * %d + tp; a rank runs the program of its pipeline stage, and its\n"
	         "// peers on an axis are the ranks that differ in that coordinate alone.\n#include \"mp.h\"\n\n",
	         plan->mesh[AXIS_DP], plan->mesh[AXIS_TP], plan->mesh[AXIS_PP], plan->mesh[AXIS_DP], plan->mesh[AXIS_TP]);
	text_add(out, "extern const struct mp_program");
	for (int s = 0; s < plan->stages; s++)
		text_add(out, "%s program_%d", s ? "," : "", s);
	text_add(out, ";\n\nstatic const struct mp_program *program_of(int stage)\n{\n\tstatic const struct mp_program *const programs[] = {");
	for (int s = 0; s < plan->stages; s++)
		text_add(out, "%s&program_%d", s ? ", " : "", s);
	text_add(out, "};\n\treturn programs[stage];\n}\n\n");
	int inputs = emit_inputs(out, emit, NULL);
	bool files = emit_file_rules(out, emit);
	text_add(out, "extern const struct mp_model model;\nconst struct mp_model model = {\n\t.name = %s,\n\t.build = \"%s\",\n\t.type = %s,\n\t.training = %s,\n",
	         c_string(emit->arena, emit->spec->name), build, mp_type(plan->graph->master), plan->graph->training ? "true" : "false");
	text_add(out, "\t.axis = {[MP_DP] = %d, [MP_TP] = %d, [MP_PP] = %d},\n\t.batch = %ld,\n\t.microbatches = %d,\n\t.steps = %d,\n\t.data = %s,\n",
	         plan->mesh[AXIS_DP], plan->mesh[AXIS_TP], plan->mesh[AXIS_PP], plan->graph->batch, plan->mesh[AXIS_MICRO], emit->spec->steps,
	         data[emit->spec->data]);
	if (emit->spec->data == DATA_TOKENS)
		text_add(out, "\t.vocabulary = %ld,\n", emit->spec->vocabulary);
	text_add(out, "\t.learning_rate = {%s, %s, %d, %s},\n\t.inputs = %s,\n\t.input_count = %d,\n\t.program = program_of,\n%s};\n",
	         c_number(emit->arena, TYPE_F64, optimizer->rate), schedules[optimizer->schedule], optimizer->warmup,
	         c_number(emit->arena, TYPE_F64, optimizer->least_rate), inputs ? "inputs" : "NULL", inputs, files ? "\t.files = &files,\n" : "");
}
