// What every kernel text begins with. S, T, U and the formulas have been defined before it.

// Dynamic shared memory: `bytes` are given at the launch.
#ifndef CUDA_CPU_SHIM
#define DYN_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char name##_raw[]; \
    type* name = reinterpret_cast<type*>(name##_raw)
#endif

// Every i in 0..n, shared among all threads of the grid.
#define EACH(i, n)                                                                         \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < (n);          \
         i += (long long)gridDim.x * blockDim.x)

// The sizes of an iteration and the strides of up to three arrays in it, innermost axis last.
struct Dims {
    long long rank;
    long long size[6];
    long long stride[3][6];
};

// A window that slides over images: n of c channels of h x w pixels, kernel, stride, padding and
// dilation (down, across), and oh x ow positions of it in each of o channels.
struct Image {
    long long n, c, h, w, o, groups, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow;
};

// Where element i of the iteration lies in array `which`.
__device__ __forceinline__ long long place(const Dims& dims, int which, long long i) {
    long long at = 0;
    for (int axis = (int)dims.rank - 1; axis >= 0; axis--) {
        at += i % dims.size[axis] * dims.stride[which][axis];
        i /= dims.size[axis];
    }
    return at;
}

// A row of the table of an update: a piece of a parameter, in words of 64 bits; the last two are
// doubles.
struct Piece {
    T *theta, *m, *v, *largest;
    const T *grad, *s, *h;
    long long len, start, columns, kind;
    T size, root;
};

__device__ __forceinline__ Piece piece(const long long* table, long long at) {
    const long long* row = table + at * 13;
    Piece p;
    p.theta = (T*)row[0];
    p.grad = (const T*)row[1];
    p.m = (T*)row[2];
    p.v = (T*)row[3];
    p.largest = (T*)row[4];
    p.s = (const T*)row[5];
    p.h = (const T*)row[6];
    p.len = row[7];
    p.start = row[8];
    p.columns = row[9];
    p.kind = row[10];
    p.size = (T)__longlong_as_double(row[11]);
    p.root = (T)__longlong_as_double(row[12]);
    return p;
}

// Whether a step is taken: the squares of its gradients add up to at most `most`. If not, that is noted with who asked,
// unless something has been noted before, for the host's next read. (kernels/src/cuda/fault.rs) No number of squares: it is.
__device__ __forceinline__ bool taken(const double* squares, double most, long long* note, long long asker) {
    if (!squares || *squares <= most) return true;
    if (blockIdx.x == 0 && threadIdx.x == 0 && note[0] == 0) note[0] = 2, note[4] = asker;
    return false;
}

__device__ __forceinline__ T infinity() {
    return (T)__longlong_as_double(0x7ff0000000000000LL);
}

// The sum over a block of one value a thread, in every thread: halves added to halves, in an order
// that depends on the block's size alone, a power of two. `scratch` has one place a thread.
template <typename V>
__device__ __forceinline__ V block_sum(V value, V* scratch) {
    scratch[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        __syncthreads();
    }
    V sum = scratch[0];
    __syncthreads();
    return sum;
}

// The largest over a block of one value a thread, in every thread; NaN if any is.
__device__ __forceinline__ T block_max(T value, T* scratch) {
    scratch[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            T a = scratch[threadIdx.x], b = scratch[threadIdx.x + half];
            scratch[threadIdx.x] = a > b || a != a ? a : b;
        }
        __syncthreads();
    }
    T max = scratch[0];
    __syncthreads();
    return max;
}

// softmax (or its logarithm) of a row whose largest number is infinite or no number, as on the CPU: numbers
// +infinity share 1, a row of -infinity alone has no weight. In place if y is x.
__device__ __forceinline__ void infinite_row(const T* x, long long n, T max, bool logarithm, T* y, T* scratch) {
    T count = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) count += x[i] == max ? T(1) : T(0);
    count = block_sum(count, scratch);
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        const T share = max != max ? max : x[i] == max && max > T(0) ? T(1) / count : T(0);
        y[i] = logarithm ? (T)log((double)share) : share;
    }
}

// From a number near the mean and the sums of differences from it and of their squares: the mean, and the
// variance, of which what the number was off is taken out again. (kernels/src/norm/moments.rs)
struct Moments {
    T mean, variance;
};

__device__ __forceinline__ Moments corrected(T near, T sum, T squares, T count) {
    const T rest = sum / count, variance = squares / count - rest * rest;
    Moments m;
    m.mean = near + rest;
    m.variance = variance < T(0) ? T(0) : variance;
    return m;
}

// The moments of n numbers, by one block. Variances are of differences from a number near the mean, in a second pass.
template <typename At>
__device__ __forceinline__ Moments moments_of(long long n, At at, T* scratch) {
    T sum = 0, squares = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += at(i);
    const T near = block_sum(sum, scratch) / (T)n;
    sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        const T d = at(i) - near;
        sum += d;
        squares += d * d;
    }
    sum = block_sum(sum, scratch);
    return corrected(near, sum, block_sum(squares, scratch), (T)n);
}
