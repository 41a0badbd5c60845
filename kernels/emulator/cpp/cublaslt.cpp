// A stand-in for cuBLASLt: the product of two matrices plus a bias, by plan. A plan is refused for sizes that
// the real library would take, too, and a call that does not fit its plan fails.
#include <initializer_list>

#include "products.hpp"

enum { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8 }; // cublasLtMatmulDescAttributes_t
enum { EPILOGUE_NONE = 1, EPILOGUE_BIAS = 4 };

namespace {

struct Product {
    int compute, scale, ta = 0, tb = 0, epilogue = EPILOGUE_NONE;
    const void* bias = nullptr;
};
struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t ld;
};
// What the caller keeps of an answer: sizes, to see that it is used for what was asked about.
struct Algorithm {
    uint64_t m, n, k, unused[5];
};
struct Answer {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

Algorithm sizes(const Product& p, const Layout& a, const Layout& d) {
    return {d.rows, d.columns, p.ta ? a.rows : a.columns, {}};
}

bool fits(const Product& p, const Layout& a, const Layout& b, const Layout& d) {
    const uint64_t m = p.ta ? a.columns : a.rows, k = p.ta ? a.rows : a.columns;
    const uint64_t inner = p.tb ? b.columns : b.rows, n = p.tb ? b.rows : b.columns;
    return m == d.rows && n == d.columns && k == inner && a.type == b.type && a.type == d.type;
}

} // namespace

API cublasLtCreate(void** handle) {
    *handle = new int;
    return OK;
}
API cublasLtDestroy(void* handle) {
    delete (int*)handle;
    return OK;
}
API cublasLtMatmulDescCreate(Product** product, int compute, int scale) {
    *product = new Product{compute, scale};
    return OK;
}
API cublasLtMatmulDescDestroy(Product* product) {
    delete product;
    return OK;
}
API cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t bytes) {
    void* at = attribute == TRANSA         ? (void*)&product->ta
               : attribute == TRANSB       ? (void*)&product->tb
               : attribute == EPILOGUE     ? (void*)&product->epilogue
               : attribute == BIAS_POINTER ? (void*)&product->bias
                                           : nullptr;
    if (!at || bytes != (attribute == BIAS_POINTER ? 8 : 4)) return INVALID;
    std::memcpy(at, value, bytes);
    return OK;
}
API cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    if (ld < (int64_t)rows) return INVALID;
    *layout = new Layout{type, rows, columns, ld};
    return OK;
}
API cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return OK;
}
API cublasLtMatmulPreferenceCreate(size_t** bytes) {
    *bytes = new size_t(0);
    return OK;
}
API cublasLtMatmulPreferenceSetAttribute(size_t* most, int, const void* value, size_t bytes) {
    if (bytes != sizeof(size_t)) return INVALID;
    std::memcpy(most, value, bytes);
    return OK;
}
API cublasLtMatmulPreferenceDestroy(size_t* bytes) {
    delete bytes;
    return OK;
}

// One way for all, with a little workspace; none for products with one row of results, so that callers meet
// that answer, too.
API cublasLtMatmulAlgoGetHeuristic(void*, Product* p, Layout* a, Layout* b, Layout* c, Layout* d, size_t* most,
                                   int wanted, Answer* answers, int* found) {
    *found = 0;
    if (wanted < 1 || c != d || !fits(*p, *a, *b, *d)) return INVALID;
    if (d->columns < 2) return NOT_SUPPORTED;
    *answers = Answer{sizes(*p, *a, *d), *most < 512 ? *most : 512, OK, 1.0f, {}};
    *found = 1;
    return OK;
}

API cublasLtMatmul(void*, Product* p, const void* alpha, const void* a, Layout* la, const void* b, Layout* lb,
                   const void* beta, const void* c, Layout* lc, void* d, Layout* ld, const Algorithm* with,
                   void* workspace, size_t bytes, void* stream) {
    if (lost()) return EXECUTION_FAILED;
    const Algorithm now = sizes(*p, *la, *ld);
    if (c != d || lc != ld || !fits(*p, *la, *lb, *ld) || std::memcmp(&now, with, sizeof(now))) return INVALID;
    if (p->epilogue != EPILOGUE_BIAS || !p->bias || p->scale != (la->type == R_64F ? R_64F : R_32F)) return INVALID;
    for (const void* at : {a, b, (const void*)d, p->bias})
        if ((uintptr_t)at % 256) return INVALID; // What the answer took for granted.
    const Factor one(alpha, p->compute), other(beta, p->compute);
    const Product by = *p;
    const Layout of_a = *la, of_b = *lb, of_d = *ld;
    return queued(stream, [=] {
        std::memset(workspace, 0xff, bytes);
        return product(of_a.type, of_d.type, by.compute, by.ta, by.tb, of_d.rows, of_d.columns, now.k, one.bytes, a,
                       of_a.ld, 0, b, of_b.ld, 0, other.bytes, d, of_d.ld, 0, 1, by.bias);
    });
}
