// explain_json.c: the plan for programs: plan.json, and what --explain=json prints.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

static json_t *describe_device(const Plan *plan, int rank)
{
	int dp_size = plan->mesh[AXIS_DP], tp_size = plan->mesh[AXIS_TP];
	int tp = rank % tp_size, dp = rank / tp_size % dp_size, pp = rank / tp_size / dp_size;
	const Role *role = &plan->roles[pp];
	json_t *device = json_pack("{s:i, s:{s:i, s:i, s:i}, s:i}", "rank", rank, "coordinates", "dp", dp, "tp", tp, "pp", pp, "role", pp);
	for (int c = 0; c < CLASSES; c++)
		json_object_set_new(device, class_names[c], json_integer((json_int_t)role->bytes[c]));
	json_object_set_new(device, "shared", json_integer((json_int_t)role->shared));
	json_object_set_new(device, "arena", json_integer((json_int_t)role->arena));
	return device;
}

static json_t *describe_stage(const Plan *plan, int s)
{
	json_t *blocks = json_array();
	for (int b = 0; b < plan->graph->blocks.count; b++)
		if (plan->stage_of[b] == s)
			json_array_append_new(blocks, json_string(plan->graph->blocks.at[b].name));
	return json_pack("{s:i, s:o, s:i}", "stage", s, "blocks", blocks, "saved_microbatches", plan->roles[s].saved_slots);
}

static json_t *describe_schedule(const Plan *plan, int s)
{
	const Actions *list = plan->graph->training ? &plan->roles[s].train : &plan->roles[s].infer;
	json_t *actions = json_array();
	for (int i = 0; i < list->count; i++)
		json_array_append_new(actions, json_string(list->at[i].name));
	return json_pack("{s:i, s:o}", "stage", s, "actions", actions);
}

static json_t *describe_links(const Plan *plan)
{
	static const char *const axes[] = {[AXIS_DP] = "dp", [AXIS_TP] = "tp", [AXIS_PP] = "pp"};
	json_t *links = json_array();
	for (int s = 0; s < plan->stages; s++) {
		Traffic traffic = find_traffic(plan, &plan->roles[s]);
		for (int axis = AXIS_DP; axis < ALL_AXES; axis++)
			if (traffic.calls[axis] > 0)
				json_array_append_new(links, json_pack("{s:i, s:s, s:f, s:f}", "stage", s, "axis", axes[axis], "bytes", traffic.bytes[axis],
				                                       "calls", traffic.calls[axis]));
	}
	return links;
}

void explain_json(const Plan *plan, Text *out)
{
	json_t *devices = json_array(), *stages = json_array(), *schedule = json_array();
	for (int rank = 0; rank < world_size(plan); rank++)
		json_array_append_new(devices, describe_device(plan, rank));
	for (int s = 0; s < plan->stages; s++) {
		json_array_append_new(stages, describe_stage(plan, s));
		json_array_append_new(schedule, describe_schedule(plan, s));
	}
	json_t *root = json_pack("{s:{s:i, s:i, s:i}, s:i, s:i, s:s, s:f, s:f, s:o, s:o, s:o, s:o}", "mesh", "dp", plan->mesh[AXIS_DP], "tp",
	                         plan->mesh[AXIS_TP], "pp", plan->mesh[AXIS_PP], "batch", (int)plan->graph->batch, "microbatches", plan->mesh[AXIS_MICRO],
	                         "schedule_name", schedule_name(plan), "step_seconds", plan->step_time, "bubble", plan->bubble, "devices", devices,
	                         "stages", stages, "schedule", schedule, "links", describe_links(plan));
	char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	text_add_bytes(out, text, strlen(text));
	text_add(out, "\n");
	free(text);
	json_decref(root);
}
