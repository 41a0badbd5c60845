// Layer norm and RMS norm over rows, batch norm over channels: y = scale (x - mean) rstd + shift. A null scale is
// 1, a null shift 0.

extern "C" __global__ void layer_norm(long long rows, long long width, double eps, const T* xs,
                                      const T* scale, const T* shift, T* ys, T* means, T* rstds) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const Moments moments = moments_of(width, [=](long long i) { return x[i]; }, scratch);
        const T mean = moments.mean, rstd = T(1) / sqrt(moments.variance + (T)eps);
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            ys[r * width + i] = (x[i] - mean) * rstd * (scale ? scale[i] : T(1)) + (shift ? shift[i] : T(0));
        if (threadIdx.x == 0) means[r] = mean, rstds[r] = rstd;
    }
}

extern "C" __global__ void layer_norm_input(long long rows, long long width, const T* xs, const T* gs,
                                            const T* means, const T* rstds, const T* scale, T* out) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *x = xs + r * width, *g = gs + r * width;
        const T mean = means[r], rstd = rstds[r];
        T sum = 0, dot = 0;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) {
            const T scaled = g[i] * (scale ? scale[i] : T(1));
            sum += scaled;
            dot += scaled * ((x[i] - mean) * rstd);
        }
        sum = block_sum(sum, scratch) / (T)width;
        dot = block_sum(dot, scratch) / (T)width;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) {
            const T scaled = g[i] * (scale ? scale[i] : T(1));
            out[r * width + i] = (scaled - sum - (x[i] - mean) * rstd * dot) * rstd;
        }
    }
}

// y = scale x / sqrt(mean(x^2) + eps) along rows; a null scale is 1.
extern "C" __global__ void rms_norm(long long rows, long long width, double eps, const T* xs,
                                    const T* scale, T* ys, T* rstds) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        T squares = 0;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) squares += x[i] * x[i];
        const T rstd = T(1) / sqrt(block_sum(squares, scratch) / (T)width + (T)eps);
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            ys[r * width + i] = x[i] * rstd * (scale ? scale[i] : T(1));
        if (threadIdx.x == 0) rstds[r] = rstd;
    }
}

extern "C" __global__ void rms_norm_input(long long rows, long long width, const T* xs, const T* gs,
                                          const T* rstds, const T* scale, T* out) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *x = xs + r * width, *g = gs + r * width;
        const T rstd = rstds[r];
        T dot = 0;
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            dot += g[i] * (scale ? scale[i] : T(1)) * x[i];
        dot = block_sum(dot, scratch) * rstd / (T)width;
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            out[r * width + i] = rstd * (g[i] * (scale ? scale[i] : T(1)) - x[i] * rstd * dot);
    }
}

// Sums over pieces of `chunk` rows of g times the normalized x, and of g: [pieces, width] each.
extern "C" __global__ void layer_norm_parameters(long long rows, long long width, long long chunk,
                                                 const T* x, const T* g, const T* means,
                                                 const T* rstds, T* d_scale, T* d_shift) {
    const long long pieces = (rows + chunk - 1) / chunk;
    EACH(i, pieces * width) {
        const long long j = i % width, piece = i / width;
        const long long end = piece * chunk + chunk < rows ? piece * chunk + chunk : rows;
        T for_scale = 0, for_shift = 0;
        for (long long r = piece * chunk; r < end; r++) {
            const T gradient = g[r * width + j];
            for_scale += gradient * ((x[r * width + j] - means[r]) * rstds[r]);
            for_shift += gradient;
        }
        d_scale[i] = for_scale;
        d_shift[i] = for_shift;
    }
}

// Mean, 1 / sqrt(variance + eps) and variance of every channel of [n, c, s]. A block for each.
extern "C" __global__ void batch_moments(long long n, long long c, long long s, double eps, const T* x,
                                         T* means, T* rstds, T* variances) {
    DYN_SHARED(T, scratch);
    for (long long channel = blockIdx.x; channel < c; channel += gridDim.x) {
        const auto at = [=](long long k) { return x[(k / s * c + channel) * s + k % s]; };
        const Moments moments = moments_of(n * s, at, scratch);
        if (threadIdx.x == 0) {
            means[channel] = moments.mean;
            variances[channel] = moments.variance;
            rstds[channel] = T(1) / sqrt(moments.variance + (T)eps);
        }
    }
}

extern "C" __global__ void batch_apply(long long total, long long c, long long s, const T* x,
                                       const T* means, const T* rstds, const T* scale, const T* shift,
                                       T* y) {
    EACH(i, total) {
        const long long channel = i / s % c;
        y[i] = (x[i] - means[channel]) * rstds[channel] * scale[channel] + shift[channel];
    }
}

// The sums of g times the normalized x, and of g, of every channel. A block for each.
extern "C" __global__ void batch_parameters(long long n, long long c, long long s, const T* x,
                                            const T* g, const T* means, const T* rstds, T* d_scale,
                                            T* d_shift) {
    DYN_SHARED(T, scratch);
    for (long long channel = blockIdx.x; channel < c; channel += gridDim.x) {
        T for_scale = 0, for_shift = 0;
        for (long long k = threadIdx.x; k < n * s; k += blockDim.x) {
            const long long at = (k / s * c + channel) * s + k % s;
            for_scale += g[at] * ((x[at] - means[channel]) * rstds[channel]);
            for_shift += g[at];
        }
        for_scale = block_sum(for_scale, scratch);
        for_shift = block_sum(for_shift, scratch);
        if (threadIdx.x == 0) d_scale[channel] = for_scale, d_shift[channel] = for_shift;
    }
}

extern "C" __global__ void batch_input(long long total, long long c, long long s, const T* x,
                                       const T* g, const T* means, const T* rstds, const T* scale,
                                       const T* d_scale, const T* d_shift, T* out) {
    const T count = (T)(total / c);
    EACH(i, total) {
        const long long channel = i / s % c;
        const T normal = (x[i] - means[channel]) * rstds[channel];
        const T centred = g[i] - d_shift[channel] / count - normal * d_scale[channel] / count;
        out[i] = scale[channel] * rstds[channel] * centred;
    }
}
