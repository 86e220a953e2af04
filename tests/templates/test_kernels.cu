// g++ -x c++ -std=c++17 -O3 -march=native -ffp-contract=off -Iruntime/host -Iruntime tests/templates/test_kernels.cu -o T && T
// nvcc -std=c++17 -O3 -fmad=false -arch=sm_90 -Iruntime tests/templates/test_kernels.cu -o T && T       (on a GPU)
//
// Every kernel template against plain loops in double, for f32 and f64 and many shapes. Templates are included as they
// stand, in a namespace for each type: their type is a typedef of float, so for double the word is redefined.
#include "harness.h"

namespace f32 {
#include "all_templates.h"
#include "cases.h"
}

#ifndef EMULATED // no emitted program has f64 on a GPU
#define float double
namespace f64 {
#include "all_templates.h"
#include "cases.h"
}
#undef float
#endif

int main()
{
	f32::test_type("f32");
#ifndef EMULATED
	f64::test_type("f64");
#endif
	return group.failed_groups > 0;
}
