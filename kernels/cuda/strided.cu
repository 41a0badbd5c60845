// Copies: of views, of parts; one number everywhere; a choice.

extern "C" __global__ void copy(Dims d, long long n, const S* xs, S* ys) {
    EACH(i, n) ys[i] = xs[place(d, 0, i)];
}

extern "C" __global__ void fill(long long n, S* ys, double value) {
    EACH(i, n) ys[i] = (T)value;
}

// Runs of `run` elements, each to its place in a row of `row` elements.
extern "C" __global__ void lay(long long n, long long run, long long row, long long start, const S* xs,
                               S* ys) {
    EACH(i, n) ys[i / run * row + start + i % run] = xs[i];
}

extern "C" __global__ void choose(long long n, const long long* condition, const S* as, const S* bs,
                                  S* ys) {
    EACH(i, n) ys[i] = condition[i] != 0 ? as[i] : bs[i];
}
