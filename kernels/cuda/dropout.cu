// Masks from Philox4x32-10 (Salmon et al. 2011): the numbers of the CPU, four to a counter.

// The uniform number in [0, 1) number i of a stream.
__device__ __forceinline__ float uniform_at(unsigned long long seed, unsigned long long stream, unsigned long long i) {
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    const unsigned long long block = i / 4;
    unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32);
    unsigned c2 = (unsigned)stream, c3 = (unsigned)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        const unsigned h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        const unsigned h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const unsigned which = (unsigned)(i % 4);
    const unsigned word = which == 0 ? c0 : which == 1 ? c1 : which == 2 ? c2 : c3;
    return (float)(word >> 8) / 16777216.0f;
}

// mask = 0 with probability p, else 1 / (1 - p); y = mask x. What shift points to, if anything, is added to
// the seed: a graph draws other masks at every launch.
extern "C" __global__ void dropout(long long n, double p, unsigned long long seed,
                                   const unsigned long long* shift, unsigned long long stream, const T* x, T* y,
                                   T* mask) {
    if (shift) seed += *shift;
    const T kept = (T)(1.0 / (1.0 - p));
    EACH(i, n) {
        const T m = (double)uniform_at(seed, stream, (unsigned long long)i) < p ? T(0) : kept;
        mask[i] = m;
        y[i] = x[i] * m;
    }
}
