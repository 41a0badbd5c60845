// A stand-in for cuBLAS.
#include "products.hpp"

struct Handle {
    void* stream = nullptr;
};

API cublasCreate_v2(Handle** handle) {
    *handle = new Handle;
    return OK;
}
API cublasDestroy_v2(Handle* handle) {
    delete handle;
    return OK;
}
API cublasSetStream_v2(Handle* handle, void* stream) {
    handle->stream = stream;
    return OK;
}
API cublasSetMathMode(Handle*, int) { return OK; }
API cublasSetWorkspace_v2(Handle*, void* at, size_t) { return (uintptr_t)at % 256 ? INVALID : OK; }

API cublasGemmStridedBatchedEx_64(Handle* handle, int ta, int tb, int64_t m, int64_t n, int64_t k, const void* alpha,
                                  const void* a, int a_type, int64_t lda, long long step_a, const void* b,
                                  int b_type, int64_t ldb, long long step_b, const void* beta, void* c, int c_type,
                                  int64_t ldc, long long step_c, int64_t count, int compute, int) {
    if (lost()) return EXECUTION_FAILED;
    if (a_type != b_type) return NOT_SUPPORTED;
    const Factor one(alpha, compute), other(beta, compute);
    return queued(handle->stream, [=] {
        return product(a_type, c_type, compute, ta, tb, m, n, k, one.bytes, a, lda, step_a, b, ldb, step_b, other.bytes,
                       c, ldc, step_c, count, nullptr);
    });
}
