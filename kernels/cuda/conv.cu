// Two-dimensional convolution, by its definition: x [n, c, h, w], weight [o, c / groups, kh, kw],
// y [n, o, oh, ow].

extern "C" __global__ void conv_forward(Image s, const S* x, const S* weight, const S* bias, S* y) {
    const long long cg = s.c / s.groups, og = s.o / s.groups;
    EACH(i, s.n * s.o * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh, o = i / (s.ow * s.oh) % s.o;
        const long long image = i / (s.ow * s.oh * s.o);
        T sum = bias ? (T)bias[o] : T(0);
        for (long long c = 0; c < cg; c++) {
            const S* plane = x + (image * s.c + o / og * cg + c) * s.h * s.w;
            const S* taps = weight + (o * cg + c) * s.kh * s.kw;
            for (long long a = 0; a < s.kh; a++) {
                const long long row = p * s.sh + a * s.dh - s.ph;
                if (row < 0 || row >= s.h) continue;
                for (long long b = 0; b < s.kw; b++) {
                    const long long column = q * s.sw + b * s.dw - s.pw;
                    if (column < 0 || column >= s.w) continue;
                    sum += (T)plane[row * s.w + column] * (T)taps[a * s.kw + b];
                }
            }
        }
        y[i] = sum;
    }
}

// Each pixel asks which positions of the window have seen it.
extern "C" __global__ void conv_input(Image s, const S* g, const S* weight, const S* bias, S* out) {
    const long long cg = s.c / s.groups, og = s.o / s.groups;
    EACH(i, s.n * s.c * s.h * s.w) {
        const long long column = i % s.w, row = i / s.w % s.h, c = i / (s.w * s.h) % s.c;
        const long long image = i / (s.w * s.h * s.c);
        T sum = bias ? (T)bias[c] : T(0);
        for (long long o = c / cg * og; o < (c / cg + 1) * og; o++) {
            const S* plane = g + (image * s.o + o) * s.oh * s.ow;
            const S* taps = weight + (o * cg + c % cg) * s.kh * s.kw;
            for (long long a = 0; a < s.kh; a++) {
                const long long down = row + s.ph - a * s.dh;
                if (down < 0 || down % s.sh != 0 || down / s.sh >= s.oh) continue;
                for (long long b = 0; b < s.kw; b++) {
                    const long long right = column + s.pw - b * s.dw;
                    if (right < 0 || right % s.sw != 0 || right / s.sw >= s.ow) continue;
                    sum += (T)plane[down / s.sh * s.ow + right / s.sw] * (T)taps[a * s.kw + b];
                }
            }
        }
        out[i] = sum;
    }
}

// A block for each weight: its threads share the images and positions.
extern "C" __global__ void conv_weight(Image s, const S* x, const S* g, S* out) {
    DYN_SHARED(T, scratch);
    const long long cg = s.c / s.groups, og = s.o / s.groups;
    for (long long i = blockIdx.x; i < s.o * cg * s.kh * s.kw; i += gridDim.x) {
        const long long b = i % s.kw, a = i / s.kw % s.kh, c = i / (s.kw * s.kh) % cg;
        const long long o = i / (s.kw * s.kh * cg);
        T sum = 0;
        for (long long at = threadIdx.x; at < s.n * s.oh * s.ow; at += blockDim.x) {
            const long long q = at % s.ow, p = at / s.ow % s.oh, image = at / (s.ow * s.oh);
            const long long row = p * s.sh + a * s.dh - s.ph, column = q * s.sw + b * s.dw - s.pw;
            if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
            const T pixel = (T)x[((image * s.c + o / og * cg + c) * s.h + row) * s.w + column];
            sum += pixel * (T)g[((image * s.o + o) * s.oh + p) * s.ow + q];
        }
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) out[i] = sum;
    }
}
