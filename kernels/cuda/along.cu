// Along the middle axis of [outer, n, inner]: entries picked by an index of their own, and added back;
// running sums, carried in double. A thread goes along an axis alone, in order.

// y[o, i, j] = x[o, index[o, i, j], j]. What a wrong index asks for is 0.
extern "C" __global__ void take(long long outer, long long n, long long inner, long long k, const T* x,
                                const long long* index, T* y) {
    EACH(i, outer * k * inner) {
        const long long j = i % inner, o = i / (inner * k), entry = index[i];
        y[i] = entry >= 0 && entry < n ? x[(o * n + entry) * inner + j] : T(0);
    }
}

// y[o, index[o, i, j], j] += x[o, i, j], where y is zero before.
extern "C" __global__ void add(long long outer, long long n, long long inner, long long k, const T* x,
                               const long long* index, T* y) {
    EACH(c, outer * inner) {
        const long long j = c % inner, o = c / inner;
        for (long long i = 0; i < k; i++) {
            const long long at = (o * k + i) * inner + j, entry = index[at];
            if (entry >= 0 && entry < n) y[(o * n + entry) * inner + j] += x[at];
        }
    }
}

extern "C" __global__ void running(long long outer, long long n, long long inner, int from_the_end,
                                   const T* x, T* y) {
    EACH(c, outer * inner) {
        const long long first = c / inner * n * inner + c % inner;
        double sum = 0;
        for (long long i = 0; i < n; i++) {
            const long long at = first + (from_the_end ? n - 1 - i : i) * inner;
            sum += x[at];
            y[at] = (T)sum;
        }
    }
}
