// data_tensors.c: data sets in a safetensors file, one tensor for each input of the spec, samples outermost.
//
// The file is mapped, not read: a data set may be larger than memory, and ranks of one machine share the pages. What
// can be checked is checked before the first step, so that no epoch ends at a bad label.
#include "data.h"

static void open_column(struct mp_dataset *d, int i, struct mp_names *missing)
{
	const struct mp_input *in = &d->model->inputs[i];
	const struct mp_tensor *t = mp_tensors_find(d->tensors, in->name);
	char have[MP_SHAPE_TEXT], want[MP_SHAPE_TEXT];
	if (!t) {
		if (!mp_input_optional(d->model, in))
			mp_names_add(missing, "%s", in->name);
		return;
	}
	if (t->dims == 0 || !mp_input_fits(in, t->dims - 1, t->shape + 1) || !mp_file_type_fits(t->type, in->type))
		mp_fail(MP_BAD_INPUT, "%s: tensor %s is %s, but each sample of the spec's input is %s", d->path, in->name,
		        mp_shape_text(have, mp_file_type_name(t->type), t->dims, t->shape),
		        mp_shape_text(want, mp_file_type_name(mp_file_type_of(in->type)), in->dims, in->shape));
	if (d->samples >= 0 && d->samples != t->shape[0])
		mp_fail(MP_BAD_INPUT, "%s: tensor %s holds %ld samples, the inputs before it hold %ld", d->path,
		        in->name, t->shape[0], d->samples);
	d->samples = t->shape[0];
	d->columns[i] = (struct mp_column){mp_tensors_map(d->tensors, t), t->type, false};
	mp_column_check(d->model, in, &d->columns[i], d->samples, d->path);
}

void mp_tensors_dataset_open(struct mp_dataset *d)
{
	struct mp_names missing = {0};
	d->tensors = mp_tensors_open(d->path);
	d->samples = -1;
	for (int i = 0; i < d->model->input_count; i++)
		open_column(d, i, &missing);
	mp_names_end(&missing);
	if (missing.count)
		mp_fail(MP_BAD_INPUT, "%s lacks inputs of the spec: %s", d->path, missing.text);
	if (d->samples <= 0)
		mp_fail(MP_BAD_INPUT, "%s holds no samples", d->path);
}
