// The same numbers in another type. FORMULA_0 makes of x, a T, what is written, or, where that is a number
// of 16 bits that does not come from a float, its word: by way of a float it would be rounded twice.

// 2 to the power of e, which must be a normal double's exponent.
__device__ __forceinline__ double power_of_two(int e) { return __longlong_as_double((long long)(e + 1023) << 52); }

// The nearest, of two the one with an even mantissa; what is too large is infinite.
__device__ __forceinline__ unsigned short narrow(double x, int mantissa, int bias) {
    const long long bits = __double_as_longlong(x);
    const int sign = (int)(bits >> 48) & 0x8000, infinite = (2 * bias + 1) << mantissa;
    int e = (int)(bits >> 52 & 0x7ff) - 1023;
    if (e > bias) return (unsigned short)(sign | infinite | (x != x ? 1 << (mantissa - 1) : 0));
    if (e < 1 - bias) e = 1 - bias;
    // In units of the last place; a carry out of the mantissa raises the exponent.
    const int units = (int)rint(fabs(x) * power_of_two(mantissa - e));
    return (unsigned short)(sign | (((e + bias - 1) << mantissa) + units));
}

// As a double, rounded to odd: what cannot be held takes the neighbour whose last bit is 1, which is no tie.
__device__ __forceinline__ double odd(long long x) {
    if (x <= 9007199254740992LL && x >= -9007199254740992LL) return (double)x;
    return (double)((x >> 11) | ((x & 0x7ff) != 0 ? 1 : 0)) * 2048.0;
}

__device__ __forceinline__ double odd(double x) { return x; }

// Towards zero; what is too large is the largest, and what is no number is 0.
__device__ __forceinline__ long long whole(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775808.0) return 9223372036854775807LL;
    if (x <= -9223372036854775808.0) return -9223372036854775807LL - 1;
    return (long long)x;
}

extern "C" __global__ void cast(long long n, const S* xs, U* ys) {
    EACH(i, n) {
        const T x = xs[i];
        ys[i] = FORMULA_0;
    }
}

extern "C" __global__ void cast_words(long long n, const S* xs, unsigned short* ys) {
    EACH(i, n) {
        const T x = xs[i];
        ys[i] = FORMULA_0;
    }
}
