// sed 's/^typedef float real;/typedef mp_bf16 real;/' of templates/NAME.cu to DIR/bf16_NAME.cu, as run.sh does, then
// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime -IDIR tests/templates/test_norms.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime -IDIR tests/templates/test_norms.cu -o T && T       (on a GPU)
//
// Templates of language models, whose elements may be bf16 while they compute in f32, against plain loops in double: for
// f32, for f64, for which the word float is redefined, and for bf16.
#include "harness.h"

namespace f32 {
#include "../../templates/layer_norm.cu"
#include "../../templates/layer_norm_grad.cu"
#include "../../templates/rms_norm.cu"
#include "../../templates/rms_norm_grad.cu"
#include "../../templates/rope.cu"
#include "../../templates/swiglu.cu"
#include "../../templates/swiglu_grad.cu"
#include "cases_norms.h"
}

#ifndef EMULATED // no emitted program has f64 on a GPU
#define float double
namespace f64 {
#include "../../templates/layer_norm.cu"
#include "../../templates/layer_norm_grad.cu"
#include "../../templates/rms_norm.cu"
#include "../../templates/rms_norm_grad.cu"
#include "../../templates/rope.cu"
#include "../../templates/swiglu.cu"
#include "../../templates/swiglu_grad.cu"
#include "cases_norms.h"
}
#undef float
#endif

namespace bf16 {
#include "bf16_layer_norm.cu"
#include "bf16_layer_norm_grad.cu"
#include "bf16_rms_norm.cu"
#include "bf16_rms_norm_grad.cu"
#include "bf16_rope.cu"
#include "bf16_swiglu.cu"
#include "bf16_swiglu_grad.cu"
#include "cases_norms.h"
}

int main()
{
	f32::test_type("f32");
#ifndef EMULATED
	f64::test_type("f64");
#endif
	bf16::test_type("bf16");
	return group.failed_groups > 0;
}
