// Parameter updates: all parameters of a model in one launch. The table has a row for each piece of a
// parameter, at most PIECE elements, and a block takes a row.

// m is the momentum buffer, or null; kind is 1 at a parameter's first step.
extern "C" __global__ void sgd(long long pieces, const long long* table, const double* squares, double most,
                               long long* note, long long asker, int nesterov, double rate, double momentum, double fresh,
                               double decay) {
    if (!taken(squares, most, note, asker)) return;
    for (long long at = blockIdx.x; at < pieces; at += gridDim.x) {
        const Piece p = piece(table, at);
        for (long long i = threadIdx.x; i < p.len; i += blockDim.x) {
            const T g = p.grad[i] + (T)decay * p.theta[i];
            if (!p.m) {
                p.theta[i] -= (T)rate * g;
                continue;
            }
            const T b = p.kind == 1 ? g : (T)momentum * p.m[i] + (T)fresh * g;
            p.m[i] = b;
            p.theta[i] -= (T)rate * (nesterov ? g + (T)momentum * b : b);
        }
    }
}

// size is the rate over 1 - beta1^t, root is sqrt(1 - beta2^t).
extern "C" __global__ void adam(long long pieces, const long long* table, const double* squares, double most,
                                long long* note, long long asker, double beta1, double fresh1, double beta2, double fresh2,
                                double kept, double coupled, double epsilon) {
    if (!taken(squares, most, note, asker)) return;
    for (long long at = blockIdx.x; at < pieces; at += gridDim.x) {
        const Piece p = piece(table, at);
        for (long long i = threadIdx.x; i < p.len; i += blockDim.x) {
            const T theta = p.theta[i], g = p.grad[i] + (T)coupled * theta;
            const T m = (T)beta1 * p.m[i] + (T)fresh1 * g;
            const T v = (T)beta2 * p.v[i] + (T)fresh2 * g * g;
            p.m[i] = m;
            p.v[i] = v;
            T under = v;
            if (p.largest) under = p.largest[i] = fmax(p.largest[i], v);
            p.theta[i] = (T)kept * theta - p.size * m / (sqrt(under) / p.root + (T)epsilon);
        }
    }
}

// kind: 0 F = s[row] h[column] + damping, 1 s[i] h[i] + damping, 2 s[i] root + damping, 3 F = root.
// size is the rate over 1 - beta^t.
extern "C" __global__ void adafisher(long long pieces, const long long* table, const double* squares, double most,
                                     long long* note, long long asker, int square_root, double beta, double fresh,
                                     double damping, double coupled, double kept) {
    if (!taken(squares, most, note, asker)) return;
    for (long long at = blockIdx.x; at < pieces; at += gridDim.x) {
        const Piece p = piece(table, at);
        for (long long i = threadIdx.x; i < p.len; i += blockDim.x) {
            const long long k = p.start + i;
            T f = p.root;
            if (p.kind == 0) f = p.s[k / p.columns] * p.h[k % p.columns] + (T)damping;
            if (p.kind == 1) f = p.s[k] * p.h[k] + (T)damping;
            if (p.kind == 2) f = p.s[k] * p.root + (T)damping;
            const T theta = p.theta[i];
            const T m = (T)beta * p.m[i] + (T)fresh * (p.grad[i] + (T)coupled * theta);
            p.m[i] = m;
            p.theta[i] = (T)kept * theta - p.size * m / (square_root ? sqrt(f) : f);
        }
    }
}
