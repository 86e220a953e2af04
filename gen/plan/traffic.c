// traffic.c: bytes that a device sends in one step, by mesh axis.
#include "cost.h"
#include "report.h"

static double runs_in_a_step(const Plan *plan, const Function *function, const Step *step)
{
	if (step->when == WHEN_EVALUATING)
		return plan->graph->training ? 0 : 1;
	bool micro = function->kind == FUNCTION_FORWARD || function->kind == FUNCTION_BACKWARD;
	return micro && step->when == WHEN_ALWAYS ? plan->mesh[AXIS_MICRO] : 1;
}

Traffic find_traffic(const Plan *plan, const Role *role)
{
	Traffic traffic = {0};
	for (int f = 0; f < role->functions.count; f++)
		for (int i = 0; i < role->functions.at[f].steps.count; i++) {
			const Step *step = &role->functions.at[f].steps.at[i];
			double runs = runs_in_a_step(plan, &role->functions.at[f], step);
			if (step->kind == STEP_COLLECTIVE) {
				traffic.bytes[step->nodes.at[0]->attributes.axis] += runs * sent_bytes(plan, step);
				traffic.calls[step->nodes.at[0]->attributes.axis] += runs;
			}
			if (step->kind == STEP_CHUNKS && step->nodes.at[0]->attributes.parts) {
				const Node *node = step->nodes.at[0];
				double n = plan->mesh[AXIS_TP], chunks = (double)node->attributes.chunks;
				traffic.bytes[AXIS_TP] += runs * chunks * (double)local_bytes(plan, node->out[CHUNKED_CLASS_SUMS]) * (n - 1) / n;
				traffic.calls[AXIS_TP] += runs * chunks;
			}
		}
	for (int i = 0; i < plan->transfers.count; i++) {
		const Transfer *t = plan->transfers.at[i];
		bool micro = t->kind == TRANSFER_FORWARD || t->kind == TRANSFER_BACKWARD;
		if (t->from != role->stage || (t->evaluation && plan->graph->training))
			continue;
		traffic.bytes[AXIS_PP] += (double)local_bytes(plan, t->tensor) * (micro ? plan->mesh[AXIS_MICRO] : 1);
		traffic.calls[AXIS_PP] += micro ? plan->mesh[AXIS_MICRO] : 1;
	}
	return traffic;
}
