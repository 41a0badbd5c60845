// The inverse of the Cholesky factor of small matrices, in place: from A = L Lᵀ, row-major, to 1/L, whose upper
// part is 0. NaN where A is not positive definite. A block takes a matrix, in shared memory.
extern "C" __global__ void cholesky(long long count, long long n, T* x) {
    DYN_SHARED(T, a);
    for (long long at = blockIdx.x; at < count; at += gridDim.x) {
        T* matrix = x + at * n * n;
        for (long long k = threadIdx.x; k < n * n; k += blockDim.x) a[k] = matrix[k];
        __syncthreads();
        // L: a column, then what it explains is taken away from the columns behind it.
        for (long long j = 0; j < n; j++) {
            if (threadIdx.x == 0) a[j * n + j] = sqrt(a[j * n + j] > T(0) ? a[j * n + j] : T(-1));
            __syncthreads();
            for (long long i = j + 1 + threadIdx.x; i < n; i += blockDim.x) a[i * n + j] /= a[j * n + j];
            __syncthreads();
            const long long rest = n - j - 1;
            for (long long k = threadIdx.x; k < rest * rest; k += blockDim.x) {
                const long long row = j + 1 + k / rest, column = j + 1 + k % rest;
                if (column <= row) a[row * n + column] -= a[row * n + j] * a[column * n + j];
            }
            __syncthreads();
        }
        // 1/L: the last column first. A thread has a row, so there are at least as many threads as rows.
        const long long i = threadIdx.x;
        for (long long j = n - 1; j >= 0; j--) {
            T sum = 0;
            if (i > j && i < n) {
                for (long long k = j + 1; k <= i; k++) sum += a[i * n + k] * a[k * n + j];
            }
            const T pivot = T(1) / a[j * n + j];
            __syncthreads();
            if (i > j && i < n) a[i * n + j] = -sum * pivot;
            if (i == j) a[j * n + j] = pivot;
            __syncthreads();
        }
        for (long long k = threadIdx.x; k < n * n; k += blockDim.x) matrix[k] = k % n <= k / n ? a[k] : T(0);
        __syncthreads();
    }
}
