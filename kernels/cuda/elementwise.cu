// A formula at every element. FORMULA_0 is f(x), FORMULA_1 f'(x), FORMULA_2 f''(x); they see x, y = f(x)
// (all but the first) and two numbers of the op, c0 and c1.

// The logistic function, without overflow.
__device__ __forceinline__ T sigmoid(T x) {
    T e = exp(-fabs(x));
    return (x < T(0) ? e : T(1)) / (T(1) + e);
}

// x, but no less than where x times a tail that is 0 there is 0; and within both bounds of that kind.
__device__ __forceinline__ T floored(T x) { return x < T(-10000) ? T(-10000) : x; }
__device__ __forceinline__ T bounded(T x) { return x > T(10000) ? T(10000) : floored(x); }

// The normal distribution: up to x, and at x.
__device__ __forceinline__ T normal_cdf(T x) {
    return T(0.5) * (T(1) + erf(x * T(0.70710678118654752440)));
}
__device__ __forceinline__ T normal_density(T x) {
    return T(0.39894228040143267794) * exp(T(-0.5) * x * x);
}

// tanh u with u = sqrt(2 / pi) (x + 0.044715 x^3), and the first two derivatives of u.
__device__ __forceinline__ T gelu_tanh(T x) {
    return tanh(T(0.79788456080286535588) * x * (T(1) + T(0.044715) * x * x));
}
__device__ __forceinline__ T gelu_tanh_slope(T x) {
    return T(0.79788456080286535588) * (T(1) + T(3 * 0.044715) * bounded(x) * bounded(x));
}
__device__ __forceinline__ T gelu_tanh_bend(T x) {
    return T(6 * 0.044715 * 0.79788456080286535588) * bounded(x);
}

extern "C" __global__ void forward(long long n, const S* xs, S* ys, double p0, double p1) {
    const T c0 = (T)p0, c1 = (T)p1;
    EACH(i, n) {
        const T x = xs[i];
        ys[i] = FORMULA_0;
    }
    (void)c0, (void)c1;
}

extern "C" __global__ void first(long long n, const S* xs, const S* ys, const S* gs, S* out, double p0,
                                 double p1) {
    const T c0 = (T)p0, c1 = (T)p1;
    EACH(i, n) {
        const T x = xs[i], y = ys[i];
        out[i] = gs[i] * FORMULA_1;
        (void)x, (void)y;
    }
    (void)c0, (void)c1;
}

extern "C" __global__ void second(long long n, const S* xs, const S* ys, const S* gs, S* out, double p0,
                                  double p1) {
    const T c0 = (T)p0, c1 = (T)p1;
    EACH(i, n) {
        const T x = xs[i], y = ys[i];
        out[i] = gs[i] * FORMULA_2;
        (void)x, (void)y;
    }
    (void)c0, (void)c1;
}
