// Running averages of sums that have not been looked at by the host.

// bad[0] = 1 if a number is not finite; else it is left as it is. Whoever writes writes the same.
extern "C" __global__ void look(long long n, const T* x, long long* bad) {
    EACH(i, n) if (!(x[i] - x[i] == T(0))) bad[0] = 1;
}

// Adds to F: (x / count - F) / weight, or nothing if bad[0].
extern "C" __global__ void average(long long n, const T* x, const long long* bad, double count, double weight,
                                   T* factor) {
    if (bad[0]) return;
    EACH(i, n) factor[i] += (x[i] / (T)count - factor[i]) / (T)weight;
}
