// Parameter updates of entries by themselves: FORMULA_0 changes theta and what is kept of it (s0, s1, s2;
// those that a rule does not keep are scratch), from the gradient g, the numbers c0 to c5, and the two
// numbers of the parameter's own step, size and root. The table is that of the other updates.

// -1, 0 or 1; what is not a number stays so.
__device__ __forceinline__ T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; }

// The largest finite number.
#define LARGEST (T)(sizeof(T) == 8 ? 1.7976931348623157e308 : 3.4028234663852886e38)

extern "C" __global__ void rule(long long pieces, const long long* table, const double* squares, double most,
                                long long* note, long long asker, double n0, double n1, double n2, double n3, double n4,
                                double n5) {
    if (!taken(squares, most, note, asker)) return;
    const T c0 = (T)n0, c1 = (T)n1, c2 = (T)n2, c3 = (T)n3, c4 = (T)n4, c5 = (T)n5;
    for (long long at = blockIdx.x; at < pieces; at += gridDim.x) {
        const Piece p = piece(table, at);
        const T size = p.size, root = p.root;
        for (long long i = threadIdx.x; i < p.len; i += blockDim.x) {
            T theta = p.theta[i], g = p.grad[i];
            T s0 = p.m ? p.m[i] : T(0), s1 = p.v ? p.v[i] : T(0), s2 = p.largest ? p.largest[i] : T(0);
            FORMULA_0;
            p.theta[i] = theta;
            if (p.m) p.m[i] = s0;
            if (p.v) p.v[i] = s1;
            if (p.largest) p.largest[i] = s2;
        }
        (void)size, (void)root;
    }
    (void)c0, (void)c1, (void)c2, (void)c3, (void)c4, (void)c5;
}
