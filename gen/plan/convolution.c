// convolution.c: which f32 convolutions a GPU computes on tensor cores, and what they need beside their operands.
//
// runtime/cuda/conv_split.c makes them of products of TF32 parts: three times the arithmetic on units that are eight times as fast, but
// the parts, three times what they are made of, are written and read, and the result is read and written again for each slice of the
// channels that are summed. Where that takes less time than the plain products it is done: with many channels and windows larger
// than a pixel, and where a kernel has enough to do. The gradient of the weights is not: it sums over samples and pixels. The choice
// depends on the extents on one device and on what the device is said to be. Samples are taken in slices that keep to a budget.
#include "cost.h"

enum { CHANNELS = 32, STRIP = 4 }; // CHANNELS: MP_CONV_SLICE of the runtime
static const size_t budget = (size_t)640 << 20;
static const double worthwhile = 0.9;           // of the time of plain products

// Whether channels are whole slices, and pixels whole strips of 16 bytes.
static bool can_split(const Plan *plan, const Node *node)
{
	const Tensor *image = node->in[0], *filters = node->in[1];
	if (plan->graph->real != TYPE_F32 || plan->tf32 || node->op == OP_CONV2D_WEIGHT_GRAD || node->attributes.window.groups > 1)
		return false;
	return local_extent(plan, image, 3) % CHANNELS == 0 && local_extent(plan, filters, 0) % STRIP == 0 && local_extent(plan, filters, 3) % STRIP == 0;
}

static int samples_at_once(const Plan *plan, const Node *node)
{
	int all = (int)local_extent(plan, node->in[0], 0), samples = all;
	size_t parts = 3 * local_bytes(plan, node->in[0]) / (size_t)all;
	while (samples > 1 && (all % samples || parts * (size_t)samples > budget))
		samples--;
	return samples;
}

// With so many samples at once: each time one kernel makes the parts, one multiplies with low parts, and one adds each slice.
static double split_seconds(const Plan *plan, const Node *node, int samples)
{
	const Device *device = plan->device;
	double image = (double)local_bytes(plan, node->in[0]), result = (double)local_bytes(plan, node->out[0]);
	double slices = (double)local_extent(plan, node->in[0], 3) / CHANNELS, traffic = 7 * image + (2 * slices + 1) * result;
	double kernels = 1 + (slices + 2) * (double)(local_extent(plan, node->in[0], 0) / samples);
	return 3 * node_flops(plan, node) / device->flops[1] + traffic / device->memory + kernels * 2 * device->launch;
}

ConvSlice conv_slice(const Plan *plan, const Node *node)
{
	ConvSlice slice = {.samples = 0};
	if (!can_split(plan, node))
		return slice;
	int samples = samples_at_once(plan, node);
	slice.seconds = split_seconds(plan, node, samples);
	if (slice.seconds > worthwhile * node_flops(plan, node) / plan->device->flops[0])
		return slice;
	size_t image = local_bytes(plan, node->in[0]) / (size_t)local_extent(plan, node->in[0], 0) * (size_t)samples;
	slice.samples = samples;
	slice.bytes = 3 * aligned(image) + 3 * aligned(local_bytes(plan, node->in[1]));
	return slice;
}
