// Rows of `width` numbers, a block for each row. The logarithm is taken of the sum, never of a
// probability.

// The row's maximum and the sum of e^(x - max).
__device__ __forceinline__ T row_max(const T* x, long long width, T* scratch) {
    T max = -infinity();
    for (long long i = threadIdx.x; i < width; i += blockDim.x) max = x[i] > max || x[i] != x[i] ? x[i] : max;
    return block_max(max, scratch);
}

__device__ __forceinline__ T row_sum_exp(const T* x, long long width, T max, T* scratch) {
    T sum = 0;
    for (long long i = threadIdx.x; i < width; i += blockDim.x) sum += exp(x[i] - max);
    return block_sum(sum, scratch);
}

extern "C" __global__ void softmax(long long rows, long long width, const T* xs, T* ys) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const T max = row_max(x, width, scratch);
        if (max - max != T(0)) {
            infinite_row(x, width, max, false, ys + r * width, scratch);
            continue;
        }
        const T scale = T(1) / row_sum_exp(x, width, max, scratch);
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            ys[r * width + i] = exp(x[i] - max) * scale;
    }
}

extern "C" __global__ void log_softmax(long long rows, long long width, const T* xs, T* ys) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const T max = row_max(x, width, scratch);
        if (max - max != T(0)) {
            infinite_row(x, width, max, true, ys + r * width, scratch);
            continue;
        }
        const T log_sum = log(row_sum_exp(x, width, max, scratch));
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            ys[r * width + i] = x[i] - max - log_sum;
    }
}

extern "C" __global__ void log_sum_exp(long long rows, long long width, const T* xs, T* ys) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const T max = row_max(x, width, scratch);
        const T sum = max - max != T(0) ? T(1) : row_sum_exp(x, width, max, scratch);
        if (threadIdx.x == 0) ys[r] = max + log(sum);
    }
}

extern "C" __global__ void softmax_backward(long long rows, long long width, const T* ys, const T* gs,
                                            T* out) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *y = ys + r * width, *g = gs + r * width;
        T dot = 0;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) dot += g[i] * y[i];
        dot = block_sum(dot, scratch);
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            out[r * width + i] = y[i] * (g[i] - dot);
    }
}

extern "C" __global__ void log_softmax_backward(long long rows, long long width, const T* ys,
                                                const T* gs, T* out) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *y = ys + r * width, *g = gs + r * width;
        T sum = 0;
        for (long long i = threadIdx.x; i < width; i += blockDim.x) sum += g[i];
        sum = block_sum(sum, scratch);
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            out[r * width + i] = g[i] - exp(y[i]) * sum;
    }
}

// log p of every row, and -log p[label]. A label out of range, which is reported elsewhere, is NaN.
extern "C" __global__ void cross_entropy(long long rows, long long width, const T* xs,
                                         const long long* labels, T* log_p, T* losses) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const T* x = xs + r * width;
        const T max = row_max(x, width, scratch);
        const long long label = labels[r];
        const bool known = label >= 0 && label < width;
        if (max - max != T(0)) {
            infinite_row(x, width, max, true, log_p + r * width, scratch);
            __syncthreads();
            if (threadIdx.x == 0) losses[r] = known ? -log_p[r * width + label] : infinity() - infinity();
            continue;
        }
        const T log_sum = log(row_sum_exp(x, width, max, scratch));
        for (long long i = threadIdx.x; i < width; i += blockDim.x)
            log_p[r * width + i] = x[i] - max - log_sum;
        if (threadIdx.x == 0) losses[r] = known ? log_sum + max - x[label] : infinity() - infinity();
    }
}

// The mean of all losses, by one block.
extern "C" __global__ void mean(long long rows, const T* losses, T* y) {
    DYN_SHARED(T, scratch);
    T sum = 0;
    for (long long r = threadIdx.x; r < rows; r += blockDim.x) sum += losses[r];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) y[0] = sum / (T)rows;
}

extern "C" __global__ void cross_entropy_backward(long long rows, long long width, const T* log_p,
                                                  const long long* labels, const T* g, T* out) {
    const T share = g[0] / (T)rows;
    EACH(i, rows * width) {
        const T hit = labels[i / width] == i % width ? T(1) : T(0);
        out[i] = (exp(log_p[i]) - hit) * share;
    }
}
