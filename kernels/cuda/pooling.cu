// Pooling over planes [planes, h, w] to [planes, oh, ow]. Sums run in the order of the positions.

// The pixel of tap (a, b) of the window at output p, or -1 outside the image.
__device__ __forceinline__ long long pixel(const Image& s, long long p, long long q, long long a, long long b) {
    const long long row = p * s.sh + a * s.dh - s.ph, column = q * s.sw + b * s.dw - s.pw;
    return row < 0 || row >= s.h || column < 0 || column >= s.w ? -1 : row * s.w + column;
}

// Along an axis, the taps that are inside of the image at output p: from the first up to, not including, the end. A
// window may have many more.
__device__ __forceinline__ long long first_tap(long long p, long long stride, long long padding, long long dilation) {
    const long long before = padding - p * stride;
    return before > 0 ? (before + dilation - 1) / dilation : 0;
}
__device__ __forceinline__ long long end_tap(long long p, long long stride, long long padding, long long dilation,
                                             long long size, long long taps) {
    const long long reach = size + padding - p * stride;
    const long long end = reach > 0 ? (reach + dilation - 1) / dilation : 0;
    return end < taps ? end : taps;
}

// Adaptive cells: from i * size / count up to, not including, (i + 1) * size / count rounded up.
__device__ __forceinline__ long long cell_start(long long i, long long size, long long count) {
    return i * size / count;
}
__device__ __forceinline__ long long cell_end(long long i, long long size, long long count) {
    return ((i + 1) * size + count - 1) / count;
}

__device__ __forceinline__ void keep_larger(T value, long long where, T& max, long long& at) {
    if (at < 0 || value > max || (value != value && max == max)) max = value, at = where;
}

extern "C" __global__ void max_pool(Image s, const T* x, T* y, long long* places) {
    EACH(i, s.n * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh;
        const T* plane = x + i / (s.ow * s.oh) * s.h * s.w;
        T max = -infinity();
        long long at = -1;
        const long long bottom = end_tap(p, s.sh, s.ph, s.dh, s.h, s.kh), right = end_tap(q, s.sw, s.pw, s.dw, s.w, s.kw);
        for (long long a = first_tap(p, s.sh, s.ph, s.dh); a < bottom; a++)
            for (long long b = first_tap(q, s.sw, s.pw, s.dw); b < right; b++) {
                const long long seen = pixel(s, p, q, a, b);
                if (seen >= 0) keep_larger(plane[seen], seen, max, at);
            }
        y[i] = max;
        places[i] = at;
    }
}

extern "C" __global__ void adaptive_max(Image s, const T* x, T* y, long long* places) {
    EACH(i, s.n * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh;
        const T* plane = x + i / (s.ow * s.oh) * s.h * s.w;
        T max = -infinity();
        long long at = -1;
        for (long long row = cell_start(p, s.h, s.oh); row < cell_end(p, s.h, s.oh); row++)
            for (long long column = cell_start(q, s.w, s.ow); column < cell_end(q, s.w, s.ow); column++)
                keep_larger(plane[row * s.w + column], row * s.w + column, max, at);
        y[i] = max;
        places[i] = at;
    }
}

// out[place] += g, a thread for each plane of `pixels`: the order is that of the outputs. A place outside of the
// plane is none.
extern "C" __global__ void scatter(long long planes, long long pixels, long long outputs, const T* g,
                                   const long long* places, T* out) {
    EACH(plane, planes) {
        for (long long i = 0; i < pixels; i++) out[plane * pixels + i] = 0;
        for (long long i = plane * outputs; i < (plane + 1) * outputs; i++)
            if (places[i] >= 0 && places[i] < pixels) out[plane * pixels + places[i]] += g[i];
    }
}

extern "C" __global__ void pick(long long n, long long pixels, long long outputs, const T* x,
                                const long long* places, T* out) {
    EACH(i, n) {
        const long long place = places[i];
        out[i] = place >= 0 && place < pixels ? x[i / outputs * pixels + place] : T(0);
    }
}

// How many taps of a window count: all, or those inside the image.
__device__ __forceinline__ T counted(const Image& s, long long p, long long q, int all) {
    if (all) return (T)(s.kh * s.kw);
    const long long rows = end_tap(p, s.sh, s.ph, s.dh, s.h, s.kh) - first_tap(p, s.sh, s.ph, s.dh);
    const long long columns = end_tap(q, s.sw, s.pw, s.dw, s.w, s.kw) - first_tap(q, s.sw, s.pw, s.dw);
    return rows > 0 && columns > 0 ? (T)(rows * columns) : T(0);
}

extern "C" __global__ void avg_pool(Image s, int all, const T* x, T* y) {
    EACH(i, s.n * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh;
        const T* plane = x + i / (s.ow * s.oh) * s.h * s.w;
        T sum = 0;
        const long long bottom = end_tap(p, s.sh, s.ph, s.dh, s.h, s.kh), right = end_tap(q, s.sw, s.pw, s.dw, s.w, s.kw);
        for (long long a = first_tap(p, s.sh, s.ph, s.dh); a < bottom; a++)
            for (long long b = first_tap(q, s.sw, s.pw, s.dw); b < right; b++) {
                const long long seen = pixel(s, p, q, a, b);
                if (seen >= 0) sum += plane[seen];
            }
        const T count = counted(s, p, q, all);
        y[i] = count > T(0) ? sum / count : T(0);
    }
}

// Each pixel asks which windows have seen it.
extern "C" __global__ void avg_pool_backward(Image s, int all, const T* g, T* out) {
    EACH(i, s.n * s.h * s.w) {
        const long long column = i % s.w, row = i / s.w % s.h;
        const T* plane = g + i / (s.w * s.h) * s.oh * s.ow;
        T sum = 0;
        // Taps that reach the pixel from the first output or the last, or from between.
        const long long lowest = row + s.ph, rightmost = column + s.pw;
        const long long up = lowest - (s.oh - 1) * s.sh, left = rightmost - (s.ow - 1) * s.sw;
        for (long long a = up > 0 ? (up + s.dh - 1) / s.dh : 0; a < s.kh && a * s.dh <= lowest; a++) {
            const long long down = row + s.ph - a * s.dh;
            if (down < 0 || down % s.sh != 0 || down / s.sh >= s.oh) continue;
            for (long long b = left > 0 ? (left + s.dw - 1) / s.dw : 0; b < s.kw && b * s.dw <= rightmost; b++) {
                const long long right = column + s.pw - b * s.dw;
                if (right < 0 || right % s.sw != 0 || right / s.sw >= s.ow) continue;
                const long long p = down / s.sh, q = right / s.sw;
                sum += plane[p * s.ow + q] / counted(s, p, q, all);
            }
        }
        out[i] = sum;
    }
}

extern "C" __global__ void adaptive_avg(Image s, const T* x, T* y) {
    EACH(i, s.n * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh;
        const long long top = cell_start(p, s.h, s.oh), bottom = cell_end(p, s.h, s.oh);
        const long long left = cell_start(q, s.w, s.ow), right = cell_end(q, s.w, s.ow);
        const T* plane = x + i / (s.ow * s.oh) * s.h * s.w;
        T sum = 0;
        for (long long row = top; row < bottom; row++)
            for (long long column = left; column < right; column++) sum += plane[row * s.w + column];
        y[i] = sum / (T)((bottom - top) * (right - left));
    }
}

extern "C" __global__ void adaptive_avg_backward(Image s, const T* g, T* out) {
    EACH(i, s.n * s.h * s.w) {
        const long long column = i % s.w, row = i / s.w % s.h;
        const T* plane = g + i / (s.w * s.h) * s.oh * s.ow;
        T sum = 0;
        // From the first cell that ends behind the pixel, as long as cells begin before it.
        const long long p0 = row * s.oh / s.h, q0 = column * s.ow / s.w;
        for (long long p = p0; p < s.oh && cell_start(p, s.h, s.oh) <= row; p++) {
            const long long rows = cell_end(p, s.h, s.oh) - cell_start(p, s.h, s.oh);
            for (long long q = q0; q < s.ow && cell_start(q, s.w, s.ow) <= column; q++) {
                const long long columns = cell_end(q, s.w, s.ow) - cell_start(q, s.w, s.ow);
                sum += plane[p * s.ow + q] / (T)(rows * columns);
            }
        }
        out[i] = sum;
    }
}
