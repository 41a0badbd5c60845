// The order of the elements along the middle axis of [outer, n, inner], by merging: every pass doubles
// the length of the runs that are in order. Each element finds its place by itself.

extern "C" __global__ void in_place(long long outer, long long n, long long inner, long long* order) {
    EACH(i, outer * n * inner) order[i] = i / inner % n;
}

// Whether a comes before b. NaN counts as the largest.
__device__ __forceinline__ bool before(T a, T b, int descending) {
    if (descending) return a > b || (a != a && b == b);
    return a < b || (b != b && a == a);
}

// Of two neighbouring runs of `width` ranks, one. An element's rank is what comes before it in its own
// run and in the other; equal elements of the first run come first.
extern "C" __global__ void merge(long long outer, long long n, long long inner, long long width,
                                 int descending, const T* x, const long long* from, long long* to) {
    EACH(i, outer * n * inner) {
        const long long column = i / (inner * n) * n * inner + i % inner, rank = i / inner % n;
        const long long start = rank / (2 * width) * (2 * width);
        const long long middle = start + width < n ? start + width : n;
        const long long end = start + 2 * width < n ? start + 2 * width : n;
        const bool in_first = rank < middle;
        const long long mine = from[i];
        const T value = x[column + mine * inner];
        const long long other = in_first ? middle : start;
        long long low = other, high = in_first ? end : middle;
        while (low < high) {
            const long long probe = (low + high) / 2;
            const T there = x[column + from[column + probe * inner] * inner];
            const bool precedes = in_first ? before(there, value, descending) : !before(value, there, descending);
            if (precedes) low = probe + 1;
            else high = probe;
        }
        const long long place = start + (rank - (in_first ? start : middle)) + (low - other);
        to[column + place * inner] = mine;
    }
}
