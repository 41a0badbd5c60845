// A stand-in for cuBLAS.
#include "products.hpp"

API cublasCreate_v2(void** handle) {
    *handle = new int;
    return OK;
}
API cublasDestroy_v2(void* handle) {
    delete (int*)handle;
    return OK;
}
API cublasSetStream_v2(void*, void*) { return OK; }
API cublasSetMathMode(void*, int) { return OK; }

API cublasGemmStridedBatchedEx_64(void*, int ta, int tb, int64_t m, int64_t n, int64_t k, const void* alpha,
                                  const void* a, int a_type, int64_t lda, long long step_a, const void* b,
                                  int b_type, int64_t ldb, long long step_b, const void* beta, void* c, int c_type,
                                  int64_t ldc, long long step_c, int64_t count, int compute, int) {
    if (lost()) return EXECUTION_FAILED;
    if (a_type != b_type) return NOT_SUPPORTED;
    return product(a_type, c_type, compute, ta, tb, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, count,
                   nullptr);
}
