// Inner products of several pairs of arrays. A row of the table is a piece of a pair: two addresses and a
// length. A block takes a row, and adds in double.
extern "C" __global__ void inner(long long rows, const long long* table, double* y) {
    DYN_SHARED(double, scratch);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const T *a = (const T*)table[3 * row], *b = (const T*)table[3 * row + 1];
        const long long len = table[3 * row + 2];
        double sum = 0;
        for (long long i = threadIdx.x; i < len; i += blockDim.x) sum += (double)a[i] * (double)b[i];
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) y[row] = sum;
    }
}
