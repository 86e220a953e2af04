// conv_split.c: f32 convolutions on tensor cores, which multiply TF32: 8 times as fast as f32 units, with a third of the bits.
//
// Each f32 number is the sum of a high and a low part that are TF32 (conv_parts.cu), and a product is that of the high parts and
// two with a low part; the product of two low parts, 2^-22 of it, is left out. Products of TF32 numbers are exact. So
//   x * w = [low x, high x] * [high w, low w] + the sum over slices of channels of high x * high w
// where the first is one convolution of twice the channels. Tensor cores add up in f32 but cut off what does not fit, always
// towards zero, so errors of long sums grow with their length, where those of rounding grow with its square root: a sum over
// all channels would be off by 1e-5. Slices of MP_CONV_SLICE channels are added to the result as f32 units add; what remains is
// 1.5 times the error of an engine without tensor cores, about 7e-7 of the result. The small products come first.
//
// For the gradient of the input the summed channels are those of dy. The gradient of the weights sums over samples and pixels, far
// too many for that, and is left to f32 units. Samples are taken some at a time, so that the parts, three times what they are made
// of, fit into the workspace: the engines' own follows behind them.
#include "conv.h"
#include "conv_parts.h"

// Where the parts lie in the workspace: bytes from its start.
struct places {
	size_t image_both, image_highs, filter_both, filter_highs, end;
};

static size_t aligned(size_t bytes)
{
	return (bytes + MP_ALIGN - 1) / MP_ALIGN * MP_ALIGN;
}

// Elements of a sample of the image whose channels are summed, and those channels.
static size_t sample_elements(const struct mp_conv *v)
{
	bool forward = v->kind == MP_CONV_FORWARD;
	return forward ? (size_t)v->h * (size_t)v->w * (size_t)v->c : (size_t)v->p * (size_t)v->q * (size_t)v->k;
}

static size_t summed_channels(const struct mp_conv *v)
{
	return (size_t)(v->kind == MP_CONV_FORWARD ? v->c : v->k);
}

static size_t filter_elements(const struct mp_conv *v)
{
	return (size_t)v->k * (size_t)v->r * (size_t)v->s * (size_t)v->c;
}

static struct places places_of(const struct mp_conv *v)
{
	size_t image = aligned((size_t)v->slice * sample_elements(v) * sizeof(float)), filter = aligned(filter_elements(v) * sizeof(float));
	struct places at = {.image_both = 0, .image_highs = 2 * image, .filter_both = 3 * image};
	at.filter_highs = at.filter_both + 2 * filter;
	at.end = at.filter_highs + filter;
	return at;
}

// The convolution of a slice of samples with another number of summed channels.
static struct mp_conv with_channels(const struct mp_conv *v, size_t channels)
{
	struct mp_conv part = *v;
	part.n = v->slice;
	part.tf32 = true;
	*(v->kind == MP_CONV_FORWARD ? &part.c : &part.k) = (int)channels;
	return part;
}

bool mp_conv_split_plan(const struct mp_rank *r, const struct mp_dnn *dnn, const struct mp_conv *v, struct mp_conv_split *split)
{
	size_t own = places_of(v).end, all = r->program->workspace_bytes;
	struct mp_conv both = with_channels(v, 2 * summed_channels(v)), high = with_channels(v, MP_CONV_SLICE);
	char why[MP_DNN_TEXT];

	*split = (struct mp_conv_split){.small = {0}};
	if (own > all)
		return false;
	split->small = mp_conv_plan_engine(dnn, &both, v->bias, 0, all - own, why);
	if (split->small.plan)
		split->large = mp_conv_plan_engine(dnn, &high, false, 1, all - own, why);
	if (split->large.plan)
		return true;
	mp_conv_split_forget(v, split);
	return false;
}

void mp_conv_split_forget(const struct mp_conv *v, struct mp_conv_split *split)
{
	struct mp_dnn_subject of = mp_conv_subject(v);
	mp_dnn_forget(&of, &split->small);
	mp_dnn_forget(&of, &split->large);
}

static void execute(struct mp_dnn *dnn, const struct mp_conv *v, const struct mp_dnn_engine *e, const float *image, const float *filter,
                    const void *bias, float *result, void *workspace, cudaStream_t stream)
{
	static const int64_t ids[] = {MP_CONV_X, MP_CONV_W, MP_CONV_Y, MP_CONV_BIAS};
	bool forward = v->kind == MP_CONV_FORWARD;
	const void *operands[] = {forward ? image : result, filter, forward ? result : image, bias};
	struct mp_dnn_subject of = mp_conv_subject(v);
	mp_dnn_execute(dnn, &of, e, bias ? 4 : 3, ids, operands, workspace, stream);
}

// Filters of a forward convolution have the summed channels innermost, as images do; for the gradient of the input they are outermost,
// so that parts one behind the other are the filters of more channels already.
static void split_filter(const struct mp_conv *v, const float *filter, float *both, float *highs, cudaStream_t stream)
{
	size_t elements = filter_elements(v), channels = (size_t)v->c;
	if (v->kind == MP_CONV_FORWARD)
		mp_conv_parts(filter, elements / channels, channels, MP_CONV_SLICE, true, both, highs, stream);
	else
		mp_conv_parts(filter, 1, elements, elements, true, both, highs, stream);
}

void mp_conv_split_run(struct mp_rank *r, struct mp_dnn *dnn, const struct mp_conv *v, const struct mp_conv_split *split, const void *a,
                       const void *b, const void *bias, void *result, cudaStream_t stream)
{
	char *workspace = r->arena + r->program->workspace_offset;
	const struct places at = places_of(v);
	float *both = (float *)(void *)(workspace + at.image_both), *highs = (float *)(void *)(workspace + at.image_highs);
	float *filter_both = (float *)(void *)(workspace + at.filter_both), *filter_highs = (float *)(void *)(workspace + at.filter_highs);
	bool forward = v->kind == MP_CONV_FORWARD;
	size_t channels = summed_channels(v), image = (size_t)v->slice * sample_elements(v), slices = channels / MP_CONV_SLICE;
	size_t made = (size_t)v->slice * (size_t)(forward ? v->p * v->q : v->h * v->w) * (size_t)(forward ? v->k : v->c);

	split_filter(v, b, filter_both, filter_highs, stream);
	for (int i = 0; i < v->n / v->slice; i++) {
		float *to = (float *)result + (size_t)i * made;
		mp_conv_parts((const float *)a + (size_t)i * image, image / channels, channels, MP_CONV_SLICE, false, both, highs, stream);
		execute(dnn, v, &split->small, both, filter_both, bias, to, workspace + at.end, stream);
		for (size_t k = 0; k < slices; k++)
			execute(dnn, v, &split->large, highs + k * (image / slices), filter_highs + k * (filter_elements(v) / slices), NULL, to,
			        workspace + at.end, stream);
	}
}
