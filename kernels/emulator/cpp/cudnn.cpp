// A stand-in for cuDNN's convolutions on NCHW arrays, each by its definition. It is strict about descriptors,
// pointers and workspaces, and refuses shapes that the real library would take, too, some when it is asked and
// some when it shall compute. ALCYON_EMULATOR_CUDNN is its version; with a minus before it, it cannot be opened.
#include <cstdlib>
#include <vector>

#include "products.hpp"

// cudnnStatus_t
constexpr int NOT_INITIALIZED = 1001, BAD_PARAM = 2000, UNSUPPORTED = 3000, UNSUPPORTED_SHAPE = 3002, FAILED = 5000;
enum { FLOAT = 0, DOUBLE = 1, HALF = 2, BFLOAT16 = 9 };                          // cudnnDataType_t
enum { DEFAULT_MATH = 0, TENSOR_OP_MATH = 1, FMA_MATH = 3 };                     // cudnnMathType_t
enum { OUTPUT, INPUT_GRADIENT, WEIGHT_GRADIENT };

namespace {

// A tensor, or a filter: n is then the number of outputs.
struct Array {
    int type = -1, n = 0, c = 0, h = 0, w = 0;
    int64_t size() const { return (int64_t)n * c * h * w; }
    int64_t bytes() const { return size() * (type == DOUBLE ? 8 : type == FLOAT ? 4 : 2); }
};
struct Window {
    int pad_h = 0, pad_w = 0, down = 0, across = 0, dilation_h = 0, dilation_w = 0, adds = -1, groups = 1, math = DEFAULT_MATH;
};
// A convolution: x, weight, y and the window.
struct Shape {
    const Array &x, &weight, &y;
    const Window& window;
};
// cudnnConvolution…AlgoPerf_t
struct Answer {
    int algorithm, status;
    float time;
    size_t memory;
    int is_deterministic, math, reserved[3];
};

// Of each map an algorithm whose bits may differ, one that wants more memory than there is, one by transforms, and
// one by products of patches.
constexpr int ALGORITHMS[3][4] = {{3, 4, 7, 1}, {0, 2, 5, 1}, {0, 2, 5, 1}};
constexpr size_t TOO_MUCH = (size_t)1 << 40;

int version() {
    const char* text = getenv("ALCYON_EMULATOR_CUDNN");
    return text ? atoi(text) : 91000;
}

int along(int n, int kernel, int pad, int stride, int dilation) {
    const int room = n + 2 * pad - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

bool fits(const Shape& s) {
    const Window& v = s.window;
    const int adds = s.x.type == DOUBLE ? DOUBLE : FLOAT;
    return s.x.type >= 0 && s.x.type == s.weight.type && s.x.type == s.y.type && v.adds == adds && s.x.n == s.y.n &&
           s.x.c == s.weight.c * v.groups && s.y.c == s.weight.n && s.y.c % v.groups == 0 &&
           s.y.h == along(s.x.h, s.weight.h, v.pad_h, v.down, v.dilation_h) &&
           s.y.w == along(s.x.w, s.weight.w, v.pad_w, v.across, v.dilation_w);
}

bool is_dilated(const Window& v) { return v.dilation_h > 1 || v.dilation_w > 1; }

// The library's answer to a question, in the order of its expectations.
int ask(int map, const Shape& s, int wanted, int* found, Answer* answers) {
    *found = 0;
    if (!fits(s) || wanted < 4) return BAD_PARAM;
    if (is_dilated(s.window) && s.window.down > 1) return UNSUPPORTED_SHAPE; // When it is asked.
    for (int i = 0; i < 4; i++) {
        // Of windows of even width no weight gradient whose bits are the same in each run.
        const bool varies = i == 0 || (map == WEIGHT_GRADIENT && s.weight.w % 2 == 0);
        answers[i] = {ALGORITHMS[map][i], OK, (float)i, i == 1 ? TOO_MUCH : 512, !varies, s.window.math, {}};
    }
    *found = 4;
    return OK;
}

int workspace(int map, const Shape& s, int algorithm, size_t* bytes) {
    *bytes = algorithm == ALGORITHMS[map][1] ? TOO_MUCH : 512;
    return fits(s) ? OK : BAD_PARAM;
}

// Whether the driver has handed out such a range, and it lies as vectors want it.
bool is_memory(const void* at, int64_t bytes) {
    static bool (*ask)(uint64_t, size_t) = [] {
        void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        return (bool (*)(uint64_t, size_t))(driver ? dlsym(driver, "emulator_holds") : nullptr);
    }();
    return (uintptr_t)at % 16 == 0 && ask && ask((uint64_t)at, (size_t)bytes);
}

// The map's output = its value + β of what was there. Operands of type O, sums of type S, results of type V.
template <class O, class S, class V>
void convolve(int map, const Shape& s, const void* a, const void* b, S beta, void* out) {
    const Window& v = s.window;
    const int64_t size = (map == OUTPUT ? s.y : map == INPUT_GRADIENT ? s.x : s.weight).size();
    std::vector<S> sums((size_t)size);
    const O *left = (const O*)a, *right = (const O*)b;
    const int inputs = s.weight.c, outputs = s.y.c / v.groups;
    for (int64_t n = 0; n < s.x.n; n++)
        for (int64_t o = 0; o < s.y.c; o++)
            for (int64_t p = 0; p < s.y.h; p++)
                for (int64_t q = 0; q < s.y.w; q++)
                    for (int64_t c = 0; c < inputs; c++)
                        for (int64_t i = 0; i < s.weight.h; i++)
                            for (int64_t j = 0; j < s.weight.w; j++) {
                                const int64_t row = p * v.down + i * v.dilation_h - v.pad_h;
                                const int64_t column = q * v.across + j * v.dilation_w - v.pad_w;
                                if (row < 0 || row >= s.x.h || column < 0 || column >= s.x.w) continue;
                                const int64_t at_x = ((n * s.x.c + o / outputs * inputs + c) * s.x.h + row) * s.x.w + column;
                                const int64_t at_w = ((o * inputs + c) * s.weight.h + i) * s.weight.w + j;
                                const int64_t at_y = ((n * s.y.c + o) * s.y.h + p) * s.y.w + q;
                                if (map == OUTPUT) sums[at_y] += (S)left[at_x] * (S)right[at_w];
                                if (map == INPUT_GRADIENT) sums[at_x] += (S)left[at_w] * (S)right[at_y];
                                if (map == WEIGHT_GRADIENT) sums[at_w] += (S)left[at_x] * (S)right[at_y];
                            }
    V* to = (V*)out;
    for (int64_t i = 0; i < size; i++)
        to[i] = beta == S(0) ? sums[(size_t)i] : sums[(size_t)i] + beta * (S)to[i]; // β = 0 reads nothing.
}

struct Handle {
    void* stream = nullptr;
};

int compute(const Handle* handle, int map, const Shape& s, const Array& of_a, const void* a, const Array& of_b, const void* b,
            int algorithm, void* room, size_t bytes, const void* alpha, const void* beta, const Array& of_out, void* out) {
    if (lost()) return FAILED;
    const int type = s.x.type, math = s.window.math;
    const bool transforms = algorithm == ALGORITHMS[map][2];
    if (!fits(s) || (algorithm != ALGORITHMS[map][3] && !transforms)) return BAD_PARAM;
    if (transforms && type != DOUBLE && math != FMA_MATH) return BAD_PARAM; // It would have rounded twice.
    if (bytes < 512 || !is_memory(room, (int64_t)bytes)) return BAD_PARAM;
    if (!is_memory(a, of_a.bytes()) || !is_memory(b, of_b.bytes()) || !is_memory(out, of_out.bytes())) return BAD_PARAM;
    if (s.window.groups > 1 && s.weight.w % 2 == 0) return UNSUPPORTED; // When it shall compute.
    if (type == DOUBLE ? *(const double*)alpha != 1 : *(const float*)alpha != 1) return BAD_PARAM;
    const Array x = s.x, weight = s.weight, y = s.y;
    const Window window = s.window;
    const Factor other(beta, type == DOUBLE ? COMPUTE_64F : COMPUTE_32F);
    return queued(handle->stream, [=] {
        const Shape s{x, weight, y, window};
        std::memset(room, 0xff, bytes);
#define CONVOLVE(O, S, V) convolve<O, S, V>(map, s, a, b, *(const S*)other.bytes, out)
        if (type == DOUBLE) CONVOLVE(Double, double, Double);
        else if (type == HALF) CONVOLVE(Half, float, Half);
        else if (type == BFLOAT16) CONVOLVE(Bfloat, float, Bfloat);
        else if (math == FMA_MATH) CONVOLVE(Single, float, Single);
        else CONVOLVE(Tf32, float, Single);
        return (int)OK;
    });
}

int set(Array* array, int format, int type, int n, int c, int h, int w) {
    const bool known = type == FLOAT || type == DOUBLE || type == HALF || type == BFLOAT16;
    if (format != 0 || !known || n < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    *array = {type, n, c, h, w};
    return OK;
}

} // namespace

extern "C" __attribute__((visibility("default"))) size_t cudnnGetVersion() { return (size_t)abs(version()); }
API cudnnCreate(Handle** handle) {
    if (version() < 0) return NOT_INITIALIZED;
    *handle = new Handle;
    return OK;
}
API cudnnDestroy(Handle* handle) {
    delete handle;
    return OK;
}
API cudnnSetStream(Handle* handle, void* stream) {
    handle->stream = stream;
    return OK;
}

API cudnnCreateTensorDescriptor(Array** array) {
    *array = new Array;
    return OK;
}
API cudnnDestroyTensorDescriptor(Array* array) {
    delete array;
    return OK;
}
API cudnnSetTensor4dDescriptor(Array* array, int format, int type, int n, int c, int h, int w) {
    return set(array, format, type, n, c, h, w);
}
API cudnnCreateFilterDescriptor(Array** array) { return cudnnCreateTensorDescriptor(array); }
API cudnnDestroyFilterDescriptor(Array* array) { return cudnnDestroyTensorDescriptor(array); }
API cudnnSetFilter4dDescriptor(Array* array, int type, int format, int k, int c, int h, int w) {
    return set(array, format, type, k, c, h, w);
}
API cudnnCreateConvolutionDescriptor(Window** window) {
    *window = new Window;
    return OK;
}
API cudnnDestroyConvolutionDescriptor(Window* window) {
    delete window;
    return OK;
}
API cudnnSetConvolution2dDescriptor(Window* window, int pad_h, int pad_w, int down, int across, int dilation_h,
                                    int dilation_w, int mode, int adds) {
    const bool is_correlation = mode == 1;
    if (!is_correlation || pad_h < 0 || pad_w < 0 || down < 1 || across < 1 || dilation_h < 1 || dilation_w < 1) return BAD_PARAM;
    *window = {pad_h, pad_w, down, across, dilation_h, dilation_w, adds, 1, DEFAULT_MATH};
    return OK;
}
API cudnnSetConvolutionGroupCount(Window* window, int groups) {
    window->groups = groups;
    return groups < 1 ? BAD_PARAM : OK;
}
API cudnnSetConvolutionMathType(Window* window, int math) {
    window->math = math;
    return math == DEFAULT_MATH || math == TENSOR_OP_MATH || math == FMA_MATH ? OK : BAD_PARAM;
}

API cudnnGetConvolutionForwardAlgorithm_v7(void*, Array* x, Array* w, Window* v, Array* y, int wanted, int* found, Answer* answers) {
    return ask(OUTPUT, {*x, *w, *y, *v}, wanted, found, answers);
}
API cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, Array* w, Array* y, Window* v, Array* x, int wanted, int* found, Answer* answers) {
    return ask(INPUT_GRADIENT, {*x, *w, *y, *v}, wanted, found, answers);
}
API cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, Array* x, Array* y, Window* v, Array* w, int wanted, int* found, Answer* answers) {
    return ask(WEIGHT_GRADIENT, {*x, *w, *y, *v}, wanted, found, answers);
}

API cudnnGetConvolutionForwardWorkspaceSize(void*, Array* x, Array* w, Window* v, Array* y, int algorithm, size_t* bytes) {
    return workspace(OUTPUT, {*x, *w, *y, *v}, algorithm, bytes);
}
API cudnnGetConvolutionBackwardDataWorkspaceSize(void*, Array* w, Array* y, Window* v, Array* x, int algorithm, size_t* bytes) {
    return workspace(INPUT_GRADIENT, {*x, *w, *y, *v}, algorithm, bytes);
}
API cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, Array* x, Array* y, Window* v, Array* w, int algorithm, size_t* bytes) {
    return workspace(WEIGHT_GRADIENT, {*x, *w, *y, *v}, algorithm, bytes);
}

API cudnnConvolutionForward(Handle* handle, const void* alpha, Array* x, const void* px, Array* w, const void* pw, Window* v,
                            int algorithm, void* room, size_t bytes, const void* beta, Array* y, void* py) {
    return compute(handle, OUTPUT, {*x, *w, *y, *v}, *x, px, *w, pw, algorithm, room, bytes, alpha, beta, *y, py);
}
API cudnnConvolutionBackwardData(Handle* handle, const void* alpha, Array* w, const void* pw, Array* y, const void* py, Window* v,
                                 int algorithm, void* room, size_t bytes, const void* beta, Array* x, void* px) {
    return compute(handle, INPUT_GRADIENT, {*x, *w, *y, *v}, *w, pw, *y, py, algorithm, room, bytes, alpha, beta, *x, px);
}
API cudnnConvolutionBackwardFilter(Handle* handle, const void* alpha, Array* x, const void* px, Array* y, const void* py, Window* v,
                                   int algorithm, void* room, size_t bytes, const void* beta, Array* w, void* pw) {
    return compute(handle, WEIGHT_GRADIENT, {*x, *w, *y, *v}, *x, px, *y, py, algorithm, room, bytes, alpha, beta, *w, pw);
}
