// The patches under a window as columns of a matrix, and sums of patches: x [n, c, h, w], a row of the
// matrix for each channel and tap of the window, a column for each image and position.

// From an image to the next there are `image` numbers of the matrix, from a row to the next `row`.
// Padding is 0.
extern "C" __global__ void unfold(Image s, long long image, long long row, const S* x, S* columns) {
    EACH(i, s.n * s.c * s.oh * s.ow) {
        const long long q = i % s.ow, p = i / s.ow % s.oh, c = i / (s.ow * s.oh) % s.c;
        const long long n = i / (s.ow * s.oh * s.c);
        const S* plane = x + (n * s.c + c) * s.h * s.w;
        S* to = columns + n * image + c * s.kh * s.kw * row + p * s.ow + q;
        for (long long a = 0; a < s.kh; a++) {
            const long long down = p * s.sh + a * s.dh - s.ph;
            for (long long b = 0; b < s.kw; b++, to += row) {
                const long long right = q * s.sw + b * s.dw - s.pw;
                if (down < 0 || down >= s.h || right < 0 || right >= s.w) *to = T(0);
                else *to = plane[down * s.w + right];
            }
        }
    }
}

// Each pixel adds up what the patches have for it, on its channel's bias. The matrix, an image after
// another, is of images from `first` on.
extern "C" __global__ void fold(Image s, long long first, const T* columns, const S* bias, S* out) {
    const long long positions = s.oh * s.ow;
    EACH(i, s.n * s.c * s.h * s.w) {
        const long long column = i % s.w, row = i / s.w % s.h, plane = i / (s.w * s.h);
        const T* from = columns + plane * s.kh * s.kw * positions;
        T sum = bias ? (T)bias[plane % s.c] : T(0);
        for (long long a = 0; a < s.kh; a++) {
            const long long down = row + s.ph - a * s.dh;
            if (down < 0 || down % s.sh != 0 || down / s.sh >= s.oh) continue;
            for (long long b = 0; b < s.kw; b++) {
                const long long right = column + s.pw - b * s.dw;
                if (right < 0 || right % s.sw != 0 || right / s.sw >= s.ow) continue;
                sum += from[(a * s.kw + b) * positions + down / s.sh * s.ow + right / s.sw];
            }
        }
        out[first * s.c * s.h * s.w + i] = sum;
    }
}
