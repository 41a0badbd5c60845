// The same numbers in another type, by way of double, which holds all of f16, bf16 and f32. FORMULA_0 makes
// a double of x, FORMULA_1 what is written of a double x.
//
// Half precisions are words of 16 bits: a sign, an exponent with a bias, and a mantissa of so many bits. No
// header of CUDA's is needed for them.

// 2 to the power of e, which must be a normal double's exponent.
__device__ __forceinline__ double power_of_two(int e) { return __longlong_as_double((long long)(e + 1023) << 52); }

__device__ __forceinline__ double widen(unsigned short word, int mantissa, int bias) {
    const int m = word & ((1 << mantissa) - 1), e = (word & 0x7fff) >> mantissa;
    const double sign = word & 0x8000 ? -1.0 : 1.0;
    if (e == 2 * bias + 1) return m ? __longlong_as_double(0x7ff8000000000000LL) : sign * __longlong_as_double(0x7ff0000000000000LL);
    // Numbers without an exponent are as far apart as those with the least one.
    return e == 0 ? sign * m * power_of_two(1 - bias - mantissa)
                  : sign * (m + (1 << mantissa)) * power_of_two(e - bias - mantissa);
}

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

// Towards zero; what is too large is the largest, and what is no number is 0.
__device__ __forceinline__ long long whole(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775808.0) return 9223372036854775807LL;
    if (x <= -9223372036854775808.0) return -9223372036854775807LL - 1;
    return (long long)x;
}

extern "C" __global__ void cast(long long n, const T* xs, U* ys) {
    EACH(i, n) {
        double wide;
        {
            const T x = xs[i];
            wide = FORMULA_0;
        }
        const double x = wide;
        ys[i] = FORMULA_1;
    }
}
