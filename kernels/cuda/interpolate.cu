// Planes at another resolution. An output coordinate is a mean of two inputs, `first` and the one
// after it, with a weight for the second. `how`: 0 the nearest, 1 linear, 2 linear with corners aligned.

struct Tap {
    long long first, second;
    T weight;
};

// Where output i of m comes from, among n inputs.
__device__ __forceinline__ Tap tap(int how, long long n, long long m, long long i) {
    double at = 0;
    if (how == 0) at = (double)(i * n / m);
    if (how == 1) at = (i + 0.5) * (double)n / (double)m - 0.5;
    if (how == 2 && m > 1) at = (double)(i * (n - 1)) / (double)(m - 1);
    if (at < 0) at = 0;
    const long long floor = (long long)at, first = floor < n - 1 ? floor : n - 1;
    return {first, first + 1 < n - 1 ? first + 1 : n - 1, (T)(at - (double)first)};
}

// The first output that comes from input y or a later one: `first` never falls.
__device__ __forceinline__ long long reached(int how, long long n, long long m, long long y) {
    long long low = 0, high = m;
    while (low < high) {
        const long long middle = (low + high) / 2;
        if (tap(how, n, m, middle).first < y) low = middle + 1;
        else high = middle;
    }
    return low;
}

// (1 - w) a + w b, and a itself for w = 0 whatever b is.
__device__ __forceinline__ T between(T a, T b, T weight) {
    return weight == T(0) ? a : a + weight * (b - a);
}

extern "C" __global__ void interpolate(long long planes, long long h, long long w, long long rows,
                                       long long columns, int how, const T* x, T* y) {
    EACH(i, planes * rows * columns) {
        const Tap row = tap(how, h, rows, i / columns % rows), column = tap(how, w, columns, i % columns);
        const T* plane = x + i / (rows * columns) * h * w;
        const T *above = plane + row.first * w, *below = plane + row.second * w;
        y[i] = between(between(above[column.first], above[column.second], column.weight),
                       between(below[column.first], below[column.second], column.weight), row.weight);
    }
}

// The share of input y in an output.
__device__ __forceinline__ T share(const Tap& from, long long y) {
    return (from.first == y ? T(1) - from.weight : T(0)) + (from.second == y ? from.weight : T(0));
}

// Each pixel asks which outputs it is in: those whose `first` is it or the one before.
extern "C" __global__ void interpolate_input(long long planes, long long h, long long w, long long rows,
                                             long long columns, int how, const T* g, T* dx) {
    EACH(i, planes * h * w) {
        const long long v = i / w % h, u = i % w;
        const T* plane = g + i / (h * w) * rows * columns;
        const long long top = reached(how, h, rows, v - 1), left = reached(how, w, columns, u - 1);
        T sum = 0;
        for (long long p = top; p < rows; p++) {
            const Tap row = tap(how, h, rows, p);
            if (row.first > v) break;
            T along = 0;
            for (long long q = left; q < columns; q++) {
                const Tap column = tap(how, w, columns, q);
                if (column.first > u) break;
                along += plane[p * columns + q] * share(column, u);
            }
            sum += share(row, v) * along;
        }
        dx[i] = sum;
    }
}
