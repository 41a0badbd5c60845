// Sums of squares: of the columns of rows, of channels, of the entries of patches.

// Sums over pieces of `chunk` rows: [pieces, width].
extern "C" __global__ void column_squares(long long rows, long long width, long long chunk, const T* x,
                                          T* y) {
    const long long pieces = (rows + chunk - 1) / chunk;
    EACH(i, pieces * width) {
        const long long j = i % width, first = i / width * chunk;
        const long long end = first + chunk < rows ? first + chunk : rows;
        T sum = 0;
        for (long long r = first; r < end; r++) sum += x[r * width + j] * x[r * width + j];
        y[i] = sum;
    }
}

// Of [n, c, s], one sum a channel. A block for each.
extern "C" __global__ void channel_squares(long long n, long long c, long long s, const T* x, T* y) {
    DYN_SHARED(T, scratch);
    for (long long channel = blockIdx.x; channel < c; channel += gridDim.x) {
        T sum = 0;
        for (long long k = threadIdx.x; k < n * s; k += blockDim.x) {
            const T value = x[(k / s * c + channel) * s + k % s];
            sum += value * value;
        }
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) y[channel] = sum;
    }
}

// One sum for each channel and tap of the window, over images and positions; padding is 0. A block for
// each.
extern "C" __global__ void patch_squares(Image s, const T* x, T* y) {
    DYN_SHARED(T, scratch);
    for (long long i = blockIdx.x; i < s.c * s.kh * s.kw; i += gridDim.x) {
        const long long b = i % s.kw, a = i / s.kw % s.kh, c = i / (s.kw * s.kh);
        T sum = 0;
        for (long long at = threadIdx.x; at < s.n * s.oh * s.ow; at += blockDim.x) {
            const long long q = at % s.ow, p = at / s.ow % s.oh, image = at / (s.ow * s.oh);
            const long long row = p * s.sh + a * s.dh - s.ph, column = q * s.sw + b * s.dw - s.pw;
            if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
            const T pixel = x[((image * s.c + c) * s.h + row) * s.w + column];
            sum += pixel * pixel;
        }
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) y[i] = sum;
    }
}
