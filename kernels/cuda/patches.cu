// The patches under a window of one group's channels: a row for each image and position, an entry for each
// channel and tap; padding is 0.
extern "C" __global__ void patches(Image s, long long group, const T* x, T* y) {
    const long long channels = s.c / s.groups, width = channels * s.kh * s.kw;
    EACH(i, s.n * s.oh * s.ow * width) {
        const long long d = i % width, r = i / width;
        const long long b = d % s.kw, a = d / s.kw % s.kh, c = group * channels + d / (s.kw * s.kh);
        const long long q = r % s.ow, p = r / s.ow % s.oh, image = r / (s.ow * s.oh);
        const long long row = p * s.sh + a * s.dh - s.ph, column = q * s.sw + b * s.dw - s.pw;
        const bool inside = row >= 0 && row < s.h && column >= 0 && column < s.w;
        y[i] = inside ? x[((image * s.c + c) * s.h + row) * s.w + column] : T(0);
    }
}
