// The matrix product by three loops, columns first, as cuBLAS counts, for its stand-ins.
#pragma once
#include <dlfcn.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define API extern "C" __attribute__((visibility("default"))) int

enum { OK = 0, INVALID = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };             // cudaDataType
enum { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_TF32 = 77 }; // cublasComputeType_t

namespace {

// A float without its last bits: the nearest of those with so many bits of mantissa, of two the even.
float rounded(float x, int mantissa) {
    if (!std::isfinite(x)) return x;
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const int lost = 23 - mantissa;
    bits += (1u << (lost - 1)) - 1 + (bits >> lost & 1);
    bits &= ~((1u << lost) - 1);
    std::memcpy(&x, &bits, 4);
    return x;
}

// What lies in memory, and the number that is computed with.
struct Single {
    float x;
    operator float() const { return x; }
    void operator=(float y) { x = y; }
};
struct Tf32 : Single {
    operator float() const { return rounded(x, 10); }
    using Single::operator=;
};
struct Double {
    double x;
    operator double() const { return x; }
    void operator=(double y) { x = y; }
};
struct Half {
    _Float16 x;
    operator float() const { return (float)x; }
    void operator=(float y) { x = (_Float16)y; }
};
struct Bfloat {
    uint16_t upper;
    operator float() const {
        const uint32_t bits = (uint32_t)upper << 16;
        float y;
        std::memcpy(&y, &bits, 4);
        return y;
    }
    void operator=(float y) {
        y = rounded(y, 7);
        uint32_t bits;
        std::memcpy(&bits, &y, 4);
        upper = (uint16_t)(bits >> 16 | (y != y ? 0x40 : 0));
    }
};

// op(M)[row, column] of a column-major matrix.
template <class V>
const V& at(const V* m, bool transposed, int64_t ld, int64_t row, int64_t column) {
    return transposed ? m[column + row * ld] : m[row + column * ld];
}

// Operands of type O, sums of type S, results and biases of type V.
template <class O, class S, class V>
int gemm(int ta, int tb, int64_t m, int64_t n, int64_t k, S alpha, const O* a, int64_t lda, int64_t step_a,
         const O* b, int64_t ldb, int64_t step_b, S beta, V* c, int64_t ldc, int64_t step_c, int64_t count,
         const V* bias) {
    if (m < 0 || n < 0 || k < 0 || count < 0) return INVALID;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1 || ldc < 1) return INVALID;
    for (int64_t i = 0; i < count; i++, a += step_a, b += step_b, c += step_c)
        for (int64_t column = 0; column < n; column++)
            for (int64_t row = 0; row < m; row++) {
                S sum = 0;
                for (int64_t inner = 0; inner < k; inner++)
                    sum += (S)at(a, ta != 0, lda, row, inner) * (S)at(b, tb != 0, ldb, inner, column);
                V& out = c[row + column * ldc];
                sum = beta == S(0) ? alpha * sum : alpha * sum + beta * (S)out; // β = 0 reads nothing.
                out = bias ? sum + (S)bias[row] : sum;
            }
    return OK;
}

// Whether the driver, which is loaded under its name, has lost the device.
bool lost() {
    static bool (*ask)() = [] {
        void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        return (bool (*)())(driver ? dlsym(driver, "emulator_is_lost") : nullptr);
    }();
    return ask && ask();
}

// Does it; if the stream is being captured, the driver does, whenever the graph is launched.
template <class F>
int queued(void* stream, F work) {
    using Queue = int (*)(void*, int (*)(void*), void (*)(void*), void*);
    static Queue queue = [] {
        void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        return (Queue)(driver ? dlsym(driver, "emulator_queue") : nullptr);
    }();
    if (!queue) return work();
    return queue(stream, [](void* f) { return (*(F*)f)(); }, [](void* f) { delete (F*)f; }, new F(work));
}

// A number that the host keeps: read when a product is queued.
struct Factor {
    unsigned char bytes[8] = {};
    Factor(const void* from, int compute) { std::memcpy(bytes, from, compute == COMPUTE_64F ? 8 : 4); }
};

// Operands of one type; results, and a bias along the rows if there is one, of the same or of floats.
[[maybe_unused]] int product(int type, int type_c, int compute, int ta, int tb, int64_t m, int64_t n, int64_t k, const void* alpha,
                             const void* a, int64_t lda, int64_t step_a, const void* b, int64_t ldb, int64_t step_b,
                             const void* beta, void* c, int64_t ldc, int64_t step_c, int64_t count, const void* bias) {
#define GEMM(O, S, V)                                                                                          \
    gemm<O, S, V>(ta, tb, m, n, k, *(const S*)alpha, (const O*)a, lda, step_a, (const O*)b, ldb, step_b,       \
               *(const S*)beta, (V*)c, ldc, step_c, count, (const V*)bias)
    if (type == R_16F && type_c == R_32F && compute == COMPUTE_32F) return GEMM(Half, float, Single);
    if (type == R_16BF && type_c == R_32F && compute == COMPUTE_32F) return GEMM(Bfloat, float, Single);
    if (type != type_c) return NOT_SUPPORTED;
    if (type == R_64F && compute == COMPUTE_64F) return GEMM(Double, double, Double);
    if (type == R_32F && compute == COMPUTE_32F) return GEMM(Single, float, Single);
    if (type == R_32F && compute == COMPUTE_32F_TF32) return GEMM(Tf32, float, Single);
    if (type == R_16F && compute == COMPUTE_32F) return GEMM(Half, float, Half);
    if (type == R_16BF && compute == COMPUTE_32F) return GEMM(Bfloat, float, Bfloat);
    return NOT_SUPPORTED;
}

} // namespace
