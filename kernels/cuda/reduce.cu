// Sums and maxima along the middle axis of [outer, n, inner].

// Sums over pieces of `chunk` entries, times `scale`, rounded once: [outer, pieces, inner]. A thread for each.
extern "C" __global__ void sum_axis(long long outer, long long n, long long inner, long long chunk, double scale,
                                    const S* x, U* y) {
    const long long pieces = (n + chunk - 1) / chunk;
    EACH(i, outer * pieces * inner) {
        const long long j = i % inner, piece = i / inner % pieces, o = i / (inner * pieces);
        const long long end = piece * chunk + chunk < n ? piece * chunk + chunk : n;
        double sum = 0;
        for (long long k = piece * chunk; k < end; k++) sum += (T)x[(o * n + k) * inner + j];
        y[i] = (T)(sum * scale);
    }
}

// The same where inner = 1. A block for each.
extern "C" __global__ void sum_rows(long long outer, long long n, long long chunk, double scale, const S* x, U* y) {
    DYN_SHARED(double, scratch);
    const long long pieces = (n + chunk - 1) / chunk;
    for (long long i = blockIdx.x; i < outer * pieces; i += gridDim.x) {
        const long long piece = i % pieces, o = i / pieces;
        const long long end = piece * chunk + chunk < n ? piece * chunk + chunk : n;
        double sum = 0;
        for (long long k = piece * chunk + threadIdx.x; k < end; k += blockDim.x) sum += (T)x[o * n + k];
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) y[i] = (T)(sum * scale);
    }
}

// The variance of every row of n numbers, around the mean; all in double. A block for each.
extern "C" __global__ void variance(long long rows, long long n, const T* xs, T* y) {
    DYN_SHARED(double, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * n;
        double sum = 0;
        for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
        const double mean = block_sum(sum, scratch) / (double)n;
        double squares = 0;
        for (long long i = threadIdx.x; i < n; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
        squares = block_sum(squares, scratch);
        if (threadIdx.x == 0) y[r] = (T)(squares / (double)n);
    }
}

// The first of equal maxima wins; a NaN wins over every number, the first NaN over the rest. `at` is
// the entry along the axis, or, if `flat`, the place in the whole input.
extern "C" __global__ void max_axis(long long outer, long long n, long long inner, int flat, const T* x,
                                    T* y, long long* at) {
    EACH(i, outer * inner) {
        const long long o = i / inner, j = i % inner;
        const T* column = x + o * n * inner + j;
        T max = column[0];
        long long where = 0;
        for (long long k = 1; k < n; k++) {
            const T value = column[k * inner];
            if (value > max || (value != value && max == max)) max = value, where = k;
        }
        y[i] = max;
        at[i] = flat ? (o * n + where) * inner + j : where;
    }
}
