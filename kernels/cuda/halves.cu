// Numbers of 16 bits: stored as words, computed with as floats. No header of CUDA's is needed for them.
#ifdef CUDA_CPU_SHIM
#define MEMBER inline
#else
#define MEMBER __device__ __forceinline__
#endif

// A sign, 5 bits of exponent (bias 15), 10 of mantissa.
struct f16 {
    unsigned short word;

    MEMBER operator float() const {
        const unsigned sign = (word & 0x8000u) << 16, size = word & 0x7fffu;
        // Without an exponent: in units of 2^-24.
        if (size < 0x400u) return __uint_as_float(sign | __float_as_uint((float)size * 5.9604644775390625e-8f));
        return __uint_as_float(sign | (size < 0x7c00u ? (size << 13) + 0x38000000u : (size << 13) | 0x7f800000u));
    }

    // The nearest, of two the one with an even mantissa; what is too large is infinite.
    MEMBER f16& operator=(float x) {
        const unsigned bits = __float_as_uint(x), size = bits & 0x7fffffffu;
        unsigned units;
        if (size > 0x7f800000u) units = 0x7e00u;
        else if (size >= 0x477ff000u) units = 0x7c00u;
        else if (size < 0x38800000u) units = (unsigned)rint(fabs(x) * 16777216.0f);
        else units = (size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13;
        word = (unsigned short)((bits >> 16 & 0x8000u) | units);
        return *this;
    }
};

// The upper half of a float.
struct bf16 {
    unsigned short word;

    MEMBER operator float() const { return __uint_as_float((unsigned)word << 16); }

    // The nearest, of two the one with an even mantissa.
    MEMBER bf16& operator=(float x) {
        const unsigned bits = __float_as_uint(x);
        word = (unsigned short)(x != x ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
        return *this;
    }
};
