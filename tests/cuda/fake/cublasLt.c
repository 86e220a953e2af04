// cublasLt.c: products by plain loops, on column-major matrices, as cuBLASLt describes them. (cublasLt.h)
#include "cublasLt.h"

#include "mp_host.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { KNOWN = 5, REFUSED = 3, SETTLED = 2 };
// Of a product by each candidate; and of those that follow SETTLED of their kind. The second is as fast as the first but for chance.
static const float milliseconds[KNOWN] = {40, 39.96F, 20, 4, 22}, settled[KNOWN] = {40, 39.96F, 30, 4, 24};
static const float of_variant = 0.9F; // with the one other option
static _Thread_local float taken; // by this rank

struct fake_operation {
	cublasOperation_t transposed[2];
	cublasLtEpilogue_t epilogue;
	const void *bias, *aux;
	int32_t bias_type, aux_type;
	int64_t aux_apart;
};

struct fake_layout {
	cudaDataType_t type;
	uint64_t rows, columns;
	int64_t apart;
};

struct fake_preference { size_t workspace; };

struct product {
	struct fake_operation operation;
	struct fake_layout a, b, d;
	const void *pointer_a, *pointer_b;
	void *pointer_d;
	float beta;
	uint64_t algorithm;
};

const char *cublasLtGetStatusString(cublasStatus_t status) { return status ? "refused" : "success"; }
size_t cublasLtGetVersion(void) { return 130100; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t *library) { *library = (cublasLtHandle_t)malloc(1); return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t library) { free(library); return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { free(operation); return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { free(layout); return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { free(preference); return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute, cudaDataType_t scale)
{
	*operation = calloc(1, sizeof **operation);
	(*operation)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
	return (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32) && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
	       : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes)
{
	const struct { void *at; size_t bytes; } fields[FAKE_ATTRIBUTES] = {
		[CUBLASLT_MATMUL_DESC_TRANSA] = {&o->transposed[0], sizeof(int32_t)}, [CUBLASLT_MATMUL_DESC_TRANSB] = {&o->transposed[1], sizeof(int32_t)},
		[CUBLASLT_MATMUL_DESC_EPILOGUE] = {&o->epilogue, sizeof(uint32_t)}, [CUBLASLT_MATMUL_DESC_BIAS_POINTER] = {&o->bias, sizeof(void *)},
		[CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE] = {&o->bias_type, sizeof(int32_t)},
		[CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER] = {&o->aux, sizeof(void *)},
		[CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD] = {&o->aux_apart, sizeof(int64_t)},
		[CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE] = {&o->aux_type, sizeof(int32_t)},
	};
	if (bytes != fields[attribute].bytes)
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(fields[attribute].at, value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t apart)
{
	*layout = malloc(sizeof **layout);
	**layout = (struct fake_layout){type, rows, columns, apart};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	*preference = calloc(1, sizeof **preference);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
	if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(size_t))
		memcpy(&preference->workspace, value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

// Whether the shapes belong together, and the tensor beside the result is what the documentation asks for.
static bool fits(const struct fake_operation *o, const struct fake_layout *a, const struct fake_layout *b, const struct fake_layout *d)
{
	bool aux = o->epilogue & 128;
	uint64_t m = o->transposed[0] ? a->columns : a->rows, k = o->transposed[0] ? a->rows : a->columns;
	uint64_t n = o->transposed[1] ? b->rows : b->columns, depth = o->transposed[1] ? b->columns : b->rows;
	return m == d->rows && n == d->columns && k == depth && a->type == b->type
	    && (!(o->epilogue & CUBLASLT_EPILOGUE_BIAS) || (o->bias && o->bias_type == (int32_t)d->type))
	    && (!aux || (o->aux && (uintptr_t)o->aux % 16 == 0 && o->aux_apart % 8 == 0 && o->aux_apart >= (int64_t)d->rows && o->aux_type == (int32_t)d->type));
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t library, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t *found, int *count)
{
	(void)library, (void)c;
	if (!fits(operation, a, b, d))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	*count = wanted < KNOWN ? wanted : KNOWN;
	for (int i = 0; i < *count; i++)
		found[i] = (cublasLtMatmulHeuristicResult_t){.algo = {{(uint64_t)i, 0xdecade}}, .workspaceSize = preference->workspace ? (size_t)i * 256 : 0};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t library, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result)
{
	(void)library, (void)c;
	*result = (cublasLtMatmulHeuristicResult_t){.workspaceSize = (size_t)algorithm->data[0] * 256};
	return fits(operation, a, b, d) && algorithm->data[0] < KNOWN && algorithm->data[1] == 0xdecade ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulAlgoCapAttributes_t attribute, void *value,
                                                 size_t bytes, size_t *written)
{
	if (attribute != CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX || bytes != sizeof(int) || algorithm->data[1] != 0xdecade)
		return CUBLAS_STATUS_INVALID_VALUE;
	*(int *)value = 1;
	*written = bytes;
	return CUBLAS_STATUS_SUCCESS;
}

// The second word's kin: an option, a cluster.
cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
	bool option = attribute == CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION;
	if (bytes != (option ? sizeof(int) : sizeof(uint16_t)))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (option)
		algorithm->data[2] = (uint64_t)*(const int *)value;
	else
		algorithm->data[3] = *(const uint16_t *)value;
	return option || algorithm->data[3] == CUBLASLT_CLUSTER_SHAPE_2x1x1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static float time_of(const cublasLtMatmulAlgo_t *algorithm)
{
	static _Thread_local cublasLtMatmulAlgo_t last;
	static _Thread_local int alike;
	alike = memcmp(&last, algorithm, sizeof last) ? 0 : alike + 1;
	last = *algorithm;
	return (alike >= SETTLED ? settled : milliseconds)[algorithm->data[0]] * (algorithm->data[2] ? of_variant : 1);
}

static double get(const void *x, int type, size_t i)
{
	uint32_t bits;
	float value;
	if (type == CUDA_R_32F)
		return (double)((const float *)x)[i];
	bits = (uint32_t)((const uint16_t *)x)[i] << 16;
	memcpy(&value, &bits, sizeof value);
	return (double)value;
}

static void set(void *x, int type, size_t i, double value)
{
	float rounded = (float)value;
	uint32_t bits;
	memcpy(&bits, &rounded, sizeof bits);
	if (type == CUDA_R_32F)
		((float *)x)[i] = rounded;
	else
		((uint16_t *)x)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// GELU or its slope.
static double gelu(double x, bool slope)
{
	double c = sqrt(2 / 3.14159265358979323846), t = tanh(c * (x + 0.044715 * x * x * x));
	return slope ? (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x) : x / 2 * (1 + t);
}

static void multiply(void *closure)
{
	const struct product *p = closure;
	const struct fake_operation *o = &p->operation;
	uint64_t depth = o->transposed[0] ? p->a.rows : p->a.columns;
	for (uint64_t j = 0; j < p->d.columns; j++)
		for (uint64_t i = 0; i < p->d.rows; i++) {
			size_t at = i + j * (size_t)p->d.apart, beside = i + j * (size_t)o->aux_apart;
			double sum = p->beta != 0 ? (double)p->beta * get(p->pointer_d, p->d.type, at) : 0;
			for (uint64_t k = 0; k < depth; k++)
				sum += get(p->pointer_a, p->a.type, o->transposed[0] ? k + i * (size_t)p->a.apart : i + k * (size_t)p->a.apart)
				     * get(p->pointer_b, p->b.type, o->transposed[1] ? j + k * (size_t)p->b.apart : k + j * (size_t)p->b.apart);
			sum *= 1 + (double)p->algorithm * 1e-6; // each algorithm has bits of its own
			if (o->epilogue & CUBLASLT_EPILOGUE_BIAS)
				sum += get(o->bias, o->bias_type, i);
			if (o->epilogue & 32 && o->epilogue & 128)
				set((void *)o->aux, o->aux_type, beside, sum);
			if (o->epilogue == CUBLASLT_EPILOGUE_DGELU)
				sum *= gelu(get(o->aux, o->aux_type, beside), true);
			else if (o->epilogue & 32)
				sum = gelu(sum, false);
			else if (o->epilogue & CUBLASLT_EPILOGUE_RELU)
				sum = sum < 0 ? 0 : sum;
			set(p->pointer_d, p->d.type, at, sum);
		}
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t library, cublasLtMatmulDesc_t operation, const void *alpha, const void *a, cublasLtMatrixLayout_t la,
                              const void *b, cublasLtMatrixLayout_t lb, const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *d,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes, cudaStream_t stream)
{
	struct product p = {*operation, *la, *lb, *ld, a, b, d, *(const float *)beta, algorithm->data[0] + algorithm->data[2]};
	bool right = *(const float *)alpha == 1 && c == d && lc == ld && workspace && bytes == algorithm->data[0] * 256 && fits(operation, la, lb, ld);
	(void)library;
	if (!right || algorithm->data[0] >= KNOWN || algorithm->data[0] == REFUSED)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	taken += time_of(algorithm);
	mp_host_enqueue(stream, "product", multiply, &p, sizeof p);
	return CUBLAS_STATUS_SUCCESS;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
	(void)device;
	strcpy(properties->name, "a GPU of loops");
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
	(void)begin, (void)end;
	*ms = taken;
	taken = 0;
	return cudaSuccess;
}
