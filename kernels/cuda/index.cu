// Entries of the middle axis by number. x is [outer, n, inner].

// Notes the first index that is not in 0..bound, unless something has been noted before: whether,
// which index, where, the bound, and who asked. By one block.
extern "C" __global__ void check(long long k, long long bound, long long asker, const long long* index,
                                 long long* fault) {
    DYN_SHARED(long long, first);
    long long mine = k;
    for (long long i = threadIdx.x; i < k; i += blockDim.x)
        if ((index[i] < 0 || index[i] >= bound) && i < mine) mine = i;
    first[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x == 0 && fault[0] == 0) {
        for (unsigned t = 0; t < blockDim.x; t++) mine = first[t] < mine ? first[t] : mine;
        if (mine < k) {
            fault[0] = 1;
            fault[1] = index[mine];
            fault[2] = mine;
            fault[3] = bound;
            fault[4] = asker;
        }
    }
}

// y[o, i, j] = x[o, index[i], j]. What a wrong index asks for is 0.
extern "C" __global__ void gather(long long outer, long long n, long long inner, long long k, const T* x,
                                  const long long* index, T* y) {
    EACH(i, outer * k * inner) {
        const long long j = i % inner, entry = index[i / inner % k], o = i / (inner * k);
        y[i] = entry >= 0 && entry < n ? x[(o * n + entry) * inner + j] : T(0);
    }
}

// y[o, index[i], j] += x[o, i, j], where y is zero before. A block for each i: the first with its
// index adds up all that share it, in order.
extern "C" __global__ void scatter_add(long long outer, long long n, long long inner, long long k,
                                       const T* x, const long long* index, T* y) {
    DYN_SHARED(int, seen);
    for (long long i = blockIdx.x; i < k; i += gridDim.x) {
        const long long entry = index[i];
        if (threadIdx.x == 0) seen[0] = entry < 0 || entry >= n;
        __syncthreads();
        for (long long before = threadIdx.x; before < i; before += blockDim.x)
            if (index[before] == entry) seen[0] = 1;
        __syncthreads();
        const bool skip = seen[0];
        __syncthreads();
        if (skip) continue;
        for (long long at = threadIdx.x; at < outer * inner; at += blockDim.x) {
            const long long o = at / inner, j = at % inner;
            T sum = 0;
            for (long long same = i; same < k; same++)
                if (index[same] == entry) sum += x[(o * k + same) * inner + j];
            y[(o * n + entry) * inner + j] = sum;
        }
    }
}
