// What a kernel text sees on the CPU in place of the CUDA language. Includes nothing, so that a text
// compiles in a tenth of a second.
#pragma once
#define CUDA_CPU_SHIM 1

#define __global__
#define __device__ static
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static

#include "shim_types.hpp"

static Shim* shim;
extern "C" __attribute__((visibility("default"))) void shim_bind(Shim* with) { shim = with; }

#define threadIdx (shim->thread)
#define blockIdx (shim->block)
#define blockDim (shim->block_size)
#define gridDim (shim->grid_size)
#define warpSize 32
#define DYN_SHARED(type, name) type* name = reinterpret_cast<type*>(shim->dynamic_shared)
#define __syncthreads() shim->barrier(__LINE__)
#define __syncwarp(...) ((void)shim->exchange(0xffffffffu, 0, __LINE__))

template <class V>
static inline V shim_shuffle(unsigned mask, V value, int lane, int line) {
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(V));
    const unsigned long long* all = shim->exchange(mask, bits, line);
    if (lane >= 0 && lane < 32) __builtin_memcpy(&value, &all[lane], sizeof(V));
    return value;
}
#define SHIM_LANE ((int)(shim->thread.x % 32))
#define __shfl_sync(mask, v, lane) shim_shuffle(mask, v, lane, __LINE__)
#define __shfl_down_sync(mask, v, by) shim_shuffle(mask, v, SHIM_LANE + (int)(by), __LINE__)
#define __shfl_up_sync(mask, v, by) shim_shuffle(mask, v, SHIM_LANE - (int)(by), __LINE__)
#define __shfl_xor_sync(mask, v, with) shim_shuffle(mask, v, SHIM_LANE ^ (int)(with), __LINE__)

template <class V>
static inline V atomicAdd(V* at, V value) {
    V old = *at;
    *at = old + value;
    return old;
}
template <class V>
static inline V atomicMin(V* at, V value) {
    V old = *at;
    *at = value < old ? value : old;
    return old;
}
template <class V>
static inline V atomicCAS(V* at, V compare, V value) {
    V old = *at;
    if (old == compare) *at = value;
    return old;
}

template <class V> static inline V min(V a, V b) { return b < a ? b : a; }
template <class V> static inline V max(V a, V b) { return a < b ? b : a; }

#define SHIM_FUNCTION(name)                                         \
    extern "C" double name(double);                                 \
    extern "C" float name##f(float);                                \
    static inline float name(float x) { return name##f(x); }
SHIM_FUNCTION(exp)
SHIM_FUNCTION(expm1)
SHIM_FUNCTION(log)
SHIM_FUNCTION(log1p)
SHIM_FUNCTION(sqrt)
SHIM_FUNCTION(cbrt)
SHIM_FUNCTION(sin)
SHIM_FUNCTION(cos)
SHIM_FUNCTION(tanh)
SHIM_FUNCTION(erf)
SHIM_FUNCTION(fabs)
SHIM_FUNCTION(floor)
SHIM_FUNCTION(ceil)
SHIM_FUNCTION(trunc)
SHIM_FUNCTION(rint)
extern "C" double pow(double, double);
extern "C" float powf(float, float);
static inline float pow(float x, float y) { return powf(x, y); }
extern "C" double fmax(double, double);
extern "C" float fmaxf(float, float);
static inline float fmax(float x, float y) { return fmaxf(x, y); }
extern "C" double fmin(double, double);
extern "C" float fminf(float, float);
static inline float fmin(float x, float y) { return fminf(x, y); }

static inline double __longlong_as_double(long long bits) {
    double x;
    __builtin_memcpy(&x, &bits, 8);
    return x;
}
static inline long long __double_as_longlong(double x) {
    long long bits;
    __builtin_memcpy(&bits, &x, 8);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}

// Calls a kernel with arguments that are given by address, each of the type that it declares.
template <int... I> struct ShimIndices {};
template <int N, int... I> struct ShimUpTo : ShimUpTo<N - 1, N - 1, I...> {};
template <int... I> struct ShimUpTo<0, I...> { using Indices = ShimIndices<I...>; };
template <class... A, int... I>
static void shim_apply(void (*kernel)(A...), void** arguments, ShimIndices<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <class... A>
static void shim_call(void (*kernel)(A...), void** arguments) {
    shim_apply(kernel, arguments, typename ShimUpTo<sizeof...(A)>::Indices());
}
template <class... A>
static const unsigned* shim_sizes(void (*)(A...)) {
    static const unsigned sizes[] = {(unsigned)sizeof(A)..., 0};
    return sizes;
}
#define SHIM_EXPORT(name)                                                                   \
    extern "C" __attribute__((visibility("default"))) void shim_kernel_##name(void** a) {   \
        shim_call(name, a);                                                                 \
    }                                                                                       \
    extern "C" __attribute__((visibility("default"))) const unsigned* shim_sizes_##name() { \
        return shim_sizes(name);                                                            \
    }
