// Group norm of [n, c, s], its c channels in groups: a group is a row of c / groups * s neighbours.
// y = scale (x - mean) rstd + shift, scale and shift of the channel. A null scale is 1, a null shift 0.

extern "C" __global__ void group_norm(long long rows, long long groups, long long c, long long s, double eps,
                                      const T* xs, const T* scale, const T* shift, T* ys, T* means,
                                      T* rstds) {
    DYN_SHARED(T, scratch);
    const long long per_group = c / groups, width = per_group * s;
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const Moments moments = moments_of(width, [=](long long i) { return x[i]; }, scratch);
        const T mean = moments.mean, rstd = T(1) / sqrt(moments.variance + (T)eps);
        for (long long i = threadIdx.x; i < width; i += blockDim.x) {
            const long long channel = r % groups * per_group + i / s;
            ys[r * width + i] =
                (x[i] - mean) * rstd * (scale ? scale[channel] : T(1)) + (shift ? shift[channel] : T(0));
        }
        if (threadIdx.x == 0) means[r] = mean, rstds[r] = rstd;
    }
}

// The sums of g times the normalized x, and of g, over the positions of every channel of every
// example: [n, c] each. A block for each.
extern "C" __global__ void group_sums(long long channels, long long per_group, long long s, const T* xs,
                                      const T* gs, const T* means, const T* rstds, T* along, T* total) {
    DYN_SHARED(T, scratch);
    for (long long k = blockIdx.x; k < channels; k += gridDim.x) {
        const T *x = xs + k * s, *g = gs + k * s;
        const T mean = means[k / per_group], rstd = rstds[k / per_group];
        T for_along = 0, for_total = 0;
        for (long long i = threadIdx.x; i < s; i += blockDim.x) {
            for_along += g[i] * ((x[i] - mean) * rstd);
            for_total += g[i];
        }
        for_along = block_sum(for_along, scratch);
        for_total = block_sum(for_total, scratch);
        if (threadIdx.x == 0) along[k] = for_along, total[k] = for_total;
    }
}

// A group's means are its channels' sums, weighted by their scales.
extern "C" __global__ void group_input(long long rows, long long groups, long long c, long long s,
                                       const T* xs, const T* gs, const T* means, const T* rstds,
                                       const T* scale, const T* along, const T* total, T* out) {
    DYN_SHARED(T, scratch);
    const long long per_group = c / groups, width = per_group * s;
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *x = xs + r * width, *g = gs + r * width;
        const T mean = means[r], rstd = rstds[r];
        const long long first = r % groups * per_group;
        T dot = 0, sum = 0;
        for (long long k = threadIdx.x; k < per_group; k += blockDim.x) {
            const T weight = scale ? scale[first + k] : T(1);
            dot += weight * along[r * per_group + k];
            sum += weight * total[r * per_group + k];
        }
        dot = block_sum(dot, scratch) / (T)width;
        sum = block_sum(sum, scratch) / (T)width;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) {
            const T weight = scale ? scale[first + i / s] : T(1);
            out[r * width + i] = rstd * (weight * g[i] - sum - (x[i] - mean) * rstd * dot);
        }
    }
}
