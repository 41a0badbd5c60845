// Scores of attention, [heads * queries, keys], turned into weights and into gradients, in place. A
// block for each query. With `causal`, query i sees the keys up to i + keys - queries.

__device__ __forceinline__ long long seen(long long row, long long queries, long long keys, int causal) {
    return causal ? row % queries + keys - queries + 1 : keys;
}

// P = softmax(scores), and the logarithm of each row's sum of exponentials.
extern "C" __global__ void weights(long long rows, long long queries, long long keys, int causal, T* scores,
                                   T* log_sums) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        T* score = scores + r * keys;
        const long long visible = seen(r, queries, keys, causal);
        T max = -infinity();
        for (long long i = threadIdx.x; i < visible; i += blockDim.x)
            max = score[i] > max || score[i] != score[i] ? score[i] : max;
        max = block_max(max, scratch);
        if (max - max != T(0)) {
            infinite_row(score, visible, max, false, score, scratch);
            for (long long i = visible + threadIdx.x; i < keys; i += blockDim.x) score[i] = T(0);
            if (threadIdx.x == 0) log_sums[r] = max;
            continue;
        }
        T sum = 0;
        for (long long i = threadIdx.x; i < visible; i += blockDim.x) sum += exp(score[i] - max);
        sum = block_sum(sum, scratch);
        for (long long i = threadIdx.x; i < keys; i += blockDim.x)
            score[i] = i < visible ? exp(score[i] - max) / sum : T(0);
        if (threadIdx.x == 0) log_sums[r] = max + log(sum);
    }
}

// From the scores in p and g V^T in ds: P, and P (g V^T - D) with D the sum of g times the output.
extern "C" __global__ void weight_gradients(long long rows, long long queries, long long keys,
                                            long long values, int causal, const S* out, const S* g,
                                            const T* log_sums, T* p, T* ds) {
    DYN_SHARED(T, scratch);
    for (long long r = blockIdx.x; r < rows; r += gridDim.x) {
        const long long visible = seen(r, queries, keys, causal);
        T mean = 0;
        for (long long j = threadIdx.x; j < values; j += blockDim.x) mean += g[r * values + j] * out[r * values + j];
        mean = block_sum(mean, scratch);
        const T log_sum = log_sums[r];
        const bool finite = log_sum - log_sum == T(0);
        if (!finite) infinite_row(p + r * keys, visible, log_sum, false, p + r * keys, scratch);
        for (long long i = threadIdx.x; i < keys; i += blockDim.x) {
            const long long at = r * keys + i;
            p[at] = i < visible ? finite ? exp(p[at] - log_sum) : p[at] : T(0);
            ds[at] = i < visible ? p[at] * (ds[at] - mean) : T(0);
        }
    }
}
