// The llama family's block and the loss, forward and backward, in float32 on one core; compiled where they run, by _kernels.py.
//
// PyTorch's operations each walk over the whole batch, and its products are at their best when they are large. Here some of a sequence's tokens at a time go
// through a sublayer while they are in the core's own caches, products take them as they lie there, and of the scores that causality hides nearly none are
// computed: 16 queries at a time, the keys after the last of them left out. What comes of it is in benchmarks/step_speed.md.
//
// B sequences, T positions, M = B T tokens, D d_model, H heads, G key-value heads, K kv_size, A = H K, E = A + 2 G K, F ffw_size, V vocab. With a small p
// after it, rounded up to whole vectors, as rows of our own buffers are: what is beyond is read, and nothing comes of it. The caller's tensors are contiguous.
// "kept" is what a forward pass leaves for its backward pass, scratch of no meaning after a call; both are the caller's, of as many floats as *_kept and
// *_scratch say.

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VL = 16, MR = 8 };  // floats of a vector, rows of a tile: 8 x 2 sums keep the multipliers busy and fit into 32 registers
#elif defined(__AVX__)
enum { VL = 8, MR = 4 };  // 16 registers
#elif defined(__ARM_NEON)
enum { VL = 4, MR = 8 };
#else
enum { VL = 4, MR = 4 };
#endif
enum { NR = 2 };                               // vectors of a tile
enum { SUB = 16, BLOCK = 64, ROWS = 128 };     // queries whose scores are one product, queries whose weights lie in one matrix, tokens of a chunk

typedef float vec __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * VL), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8")

typedef struct { long B, T, D, H, G, K, F, V; } Shape;

long vector_length(void) { return VL; }

INLINE long up(long n, long to) { return (n + to - 1) / to * to; }
INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE vec load(const float *x) { return *(const vec *)x; }
INLINE void store(float *x, vec v) { *(vec *)x = v; }
INLINE vec choose(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

INLINE float total(vec v)
{
    float s[VL];
    store(s, v);
    UNROLLED for (int half = VL / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

INLINE float largest(vec v)
{
    float s[VL];
    store(s, v);
    UNROLLED for (int half = VL / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] = s[i] > s[i + half] ? s[i] : s[i + half];
    return s[0];
}

// ---- products -------------------------------------------------------------------------------------------------------------------------------------------

// c[i][j] (+)= sum over k of a[i am + k ak] b[k bk + j], for mr rows and nr vectors of columns; meanwhile the tile that comes next is fetched
INLINE void tile(int mr, int nr, long depth, const float *a, long am, long ak, const float *b, long bk, float *c, long cm, int adds, const float *next)
{
    UNROLLED for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr * VL; j += 16) __builtin_prefetch(next + i * cm + j, 1);  // 64 bytes: a cache line
    vec sums[8][NR];
    UNROLLED for (int i = 0; i < mr; i++)
        UNROLLED for (int j = 0; j < nr; j++) sums[i][j] = adds ? load(c + i * cm + j * VL) : (vec){0};
    for (long k = 0; k < depth; k++) {
        vec row[NR];
        UNROLLED for (int j = 0; j < nr; j++) row[j] = load(b + k * bk + j * VL);
        UNROLLED for (int i = 0; i < mr; i++)
            UNROLLED for (int j = 0; j < nr; j++) sums[i][j] += a[i * am + k * ak] * row[j];
    }
    UNROLLED for (int i = 0; i < mr; i++)
        UNROLLED for (int j = 0; j < nr; j++) store(c + i * cm + j * VL, sums[i][j]);
}

typedef void Tile(long, const float *, long, long, const float *, long, float *, long, int, const float *);
#define TILE(mr, nr) \
    static __attribute__((noinline)) void tile_##mr##_##nr( \
        long depth, const float *a, long am, long ak, const float *b, long bk, float *c, long cm, int adds, const float *next) \
    { \
        if (ak == 1) tile(mr, nr, depth, a, am, 1, b, bk, c, cm, adds, next); \
        else tile(mr, nr, depth, a, 1, ak, b, bk, c, cm, adds, next); \
    }
TILE(1, 1) TILE(2, 1) TILE(4, 1) TILE(8, 1)
TILE(1, 2) TILE(2, 2) TILE(4, 2) TILE(8, 2)

// C (M, Np) (+)= A (M, depth) B (depth, N). One of A's strides is 1. B's rows are bk apart; or it is packed, from -bk columns.
static void product(long M, long N, long depth, const float *a, long am, long ak, const float *b, long bk, float *c, long cm, int adds)
{
    static Tile *const tiles[NR][4] = {{tile_1_1, tile_2_1, tile_4_1, tile_8_1}, {tile_1_2, tile_2_2, tile_4_2, tile_8_2}};
    for (long n = 0; n < N; n += NR * VL) {
        int nr = N - n > VL ? 2 : 1;
        const float *panel = bk > 0 ? b + n : b + n * depth;
        long step = bk > 0 ? bk : -bk - n > VL ? NR * VL : VL;
        for (long m = 0, rows; m < M; m += rows) {
            int size = M - m >= 8 && MR == 8 ? 3 : M - m >= 4 ? 2 : M - m >= 2 ? 1 : 0;
            rows = 1 << size;
            const float *next = m + rows < M ? c + (m + rows) * cm + n : c + n + NR * VL;
            tiles[nr - 1][size](depth, a + m * am, am, ak, panel, step, c + m * cm + n, cm, adds, next);
        }
    }
}

// B of a product, panel after panel of NR vectors: B[k][n] = w[n wn + k wk], times a gain of n or of k; columns from N on are 0
static void pack(float *to, const float *w, long wn, long wk, long N, long depth, const float *gain_n, const float *gain_k)
{
    for (long n0 = 0; n0 < N; n0 += NR * VL) {
        long width = N - n0 > VL ? NR * VL : VL, there = least(width, N - n0);
        for (long k0 = 0, deep; k0 < depth; k0 += deep, to += deep * width) {  // so many rows of it that both stay in the first cache
            deep = least(VL, depth - k0);
            if (there < width) memset(to, 0, deep * width * sizeof *to);
            for (long n = 0; n < there && wk == 1; n++)
                for (long k = 0; k < deep; k++) to[k * width + n] = w[(n0 + n) * wn + k0 + k];
            for (long k = 0; k < deep; k++) {
                for (long n = 0; n < there && wk != 1; n++) to[k * width + n] = w[(n0 + n) * wn + (k0 + k) * wk];
                for (long n = 0; n < there && gain_n; n++) to[k * width + n] *= gain_n[n0 + n];
                for (long n = 0; n < there && gain_k; n++) to[k * width + n] *= gain_k[k0 + k];
            }
        }
    }
}

// ---- what is no product ---------------------------------------------------------------------------------------------------------------------------------

// e^x to 2 units in the last place from -87.3 to 88; 0 below, and e^88 above
INLINE vec expv(vec x)
{
    const vec magic = (vec){0} + 12582912.0f;  // 1.5 x 2^23: what is added to it is rounded to a whole number
    const vec end = (vec){0} + 88.0f;
    x = choose(x < -end, -end, x);
    x = choose(x > end, end, x);
    vec whole = x * 1.44269504088896341f + magic;
    ivec power = ((ivec)whole - (ivec)magic + 127) << 23;  // 2^whole, or 0
    whole -= magic;
    x = x - whole * 0.693359375f + whole * 2.12194440e-4f;  // less whole x ln 2, in two parts (Cody and Waite 1980)
    vec y = (vec){0} + 1.9875691500e-4f;  // of Cephes' expf (Moshier 1992), minimax on +-ln 2 / 2
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    return (y * x * x + x + 1.0f) * (vec)power;
}

// h = x over its root mean square, and 0 where it is padded; and what x was multiplied by
static void norm(long rows, long D, float eps, const float *x, float *h, float *scale)
{
    long Dp = up(D, VL);
    for (long r = 0; r < rows; r++, x += D, h += Dp) {
        memcpy(h, x, D * sizeof *h);
        memset(h + D, 0, (Dp - D) * sizeof *h);
        vec squares = {0};
        for (long d = 0; d < Dp; d += VL) squares += load(h + d) * load(h + d);
        scale[r] = 1 / sqrtf(total(squares) / D + eps);
        for (long d = 0; d < Dp; d += VL) store(h + d, load(h + d) * scale[r]);
    }
}

// h again, from the scale
static void norm_again(long rows, long D, const float *x, const float *scale, float *h)
{
    long Dp = up(D, VL);
    for (long r = 0; r < rows; r++, x += D, h += Dp) {
        for (long d = 0; d < D; d++) h[d] = x[d] * scale[r];
        memset(h + D, 0, (Dp - D) * sizeof *h);
    }
}

// dx = dy, where there is one, and the gradient through the norm from dh, which is 0 where it is padded
static void norm_backward(long rows, long D, const float *dh, const float *h, const float *scale, const float *dy, float *dx)
{
    long Dp = up(D, VL);
    for (long r = 0; r < rows; r++, dh += Dp, h += Dp, dx += D) {
        vec along = {0};
        for (long d = 0; d < Dp; d += VL) along += load(dh + d) * load(h + d);
        float mean = total(along) / D;
        for (long d = 0; d < D; d++) dx[d] = (dh[d] - h[d] * mean) * scale[r];
        if (!dy) continue;
        for (long d = 0; d < D; d++) dx[d] += dy[d];
        dy += D;
    }
}

// out = x + y, y padded
static void add(long rows, long D, const float *x, const float *y, float *out)
{
    for (long r = 0; r < rows; r++, x += D, y += up(D, VL), out += D)
        for (long d = 0; d < D; d++) out[d] = x[d] + y[d];
}

// The gradients of a matrix and of a norm's gain, from that of their product, padded
static void ungained(long rows, long D, const float *dgained, const float *w, const float *gain, float *dw, float *dgain)
{
    memset(dgain, 0, D * sizeof *dgain);
    for (long r = 0; r < rows; r++, dgained += up(D, VL), w += D, dw += D)
        for (long d = 0; d < D; d++) {
            dgain[d] += dgained[d] * w[d];
            dw[d] = dgained[d] * gain[d];
        }
}

static void unpadded(long rows, long columns, long stride, const float *x, float *out)
{
    for (long r = 0; r < rows; r++) memcpy(out + r * columns, x + r * stride, columns * sizeof *x);
}

// The next n floats of a buffer, from a vector's border on; only counted where there is no buffer
static float *take(float *buffer, long *taken, long n)
{
    float *here = buffer ? buffer + *taken : 0;
    *taken += up(n, VL);
    return here;
}

INLINE long packed(long N, long depth) { return up(N, VL) * depth; }
enum { BEYOND = NR * VL };  // floats after the end of a buffer that may be read

// ---- attention ------------------------------------------------------------------------------------------------------------------------------------------

typedef struct { long A, E, Dp, Kp, Ap, Ep, Tp, weights; } Sizes;

static Sizes sizes_of(const Shape *s)
{
    Sizes z = {.A = s->H * s->K, .E = (s->H + 2 * s->G) * s->K, .Dp = up(s->D, VL), .Kp = up(s->K, VL), .Tp = up(s->T, SUB)};
    z.Ap = up(z.A - s->K + z.Kp, VL);  // the last head, too, writes whole vectors
    z.Ep = up(z.E, VL);
    for (long start = 0; start < s->T; start += BLOCK) z.weights += BLOCK * least(start + BLOCK, z.Tp);
    return z;
}

// Of a sequence: queries (H, T, K), turned and over sqrt(K), keys, turned, and values (G, T, K), o (T, Ap), and of every head its weights: block after block
// of queries, with a column for every key up to the last of the block
typedef struct { float *scale, *q, *k, *v, *o, *p; } Kept;

static long keep(const Shape *s, Sizes z, float *buffer, Kept *c)
{
    long n = 0;
    c->scale = take(buffer, &n, s->T);
    c->q = take(buffer, &n, s->H * s->T * s->K);
    c->k = take(buffer, &n, s->G * s->T * s->K);
    c->v = take(buffer, &n, s->G * s->T * s->K);
    c->o = take(buffer, &n, s->T * z.Ap);
    c->p = take(buffer, &n, s->H * z.weights);
    return n;
}

long attention_kept(const Shape *s)
{
    Kept c;
    return s->B * keep(s, sizes_of(s), 0, &c) + BEYOND;
}

typedef struct { float *w_qkv, *w_out, *h, *qkv, *keys; } Forward;

static long lay_forward(const Shape *s, Sizes z, float *buffer, Forward *f)
{
    long n = 0;
    f->w_qkv = take(buffer, &n, packed(z.E, s->D));
    f->w_out = take(buffer, &n, packed(s->D, z.A));
    f->h = take(buffer, &n, ROWS * z.Dp);
    f->qkv = take(buffer, &n, ROWS * z.Ep);
    f->keys = take(buffer, &n, packed(s->T, s->K));
    return n + BEYOND;
}

typedef struct { float *w_qkv, *w_out, *dw_qkv, *dw_out, *h, *dh, *dqkv, *d_o, *dq, *dk, *dv, *along, *values, *ds; } Backward;

static long lay_backward(const Shape *s, Sizes z, float *buffer, Backward *f)
{
    long n = 0;
    f->w_qkv = take(buffer, &n, packed(s->D, z.E));
    f->w_out = take(buffer, &n, packed(z.A, s->D));
    f->dw_qkv = take(buffer, &n, z.E * z.Dp);
    f->dw_out = take(buffer, &n, s->D * z.Ap);
    f->h = take(buffer, &n, ROWS * z.Dp);
    f->dh = take(buffer, &n, ROWS * z.Dp);
    f->dqkv = take(buffer, &n, s->T * z.Ep);
    f->d_o = take(buffer, &n, s->T * z.Ap);
    f->dq = take(buffer, &n, s->T * z.Kp);
    f->dk = take(buffer, &n, s->T * z.Kp);
    f->dv = take(buffer, &n, s->T * z.Kp);
    f->along = take(buffer, &n, s->T);
    f->values = take(buffer, &n, packed(s->T, s->K));
    f->ds = take(buffer, &n, z.weights);
    return n + BEYOND;
}

long attention_scratch(const Shape *s)
{
    Forward f;
    Backward b;
    long forward = lay_forward(s, sizes_of(s), 0, &f), backward = lay_backward(s, sizes_of(s), 0, &b);
    return forward > backward ? forward : backward;
}

// Pairs (first half, second half) of a head's rows turned by their positions' angles, of sign times the sine, and scaled (Su et al. 2021, Eq. 34)
static void turn(long rows, long K, const float *x, long xm, const float *cosine, const float *sine, float sign, float scale, float *out, long om)
{
    long C = K / 2;
    for (long r = 0; r < rows; r++, x += xm, out += om, cosine += C, sine += C)
        for (long c = 0; c < C; c++) {
            float a = x[c], b = x[C + c], cos = cosine[c] * scale, sin = sine[c] * scale * sign;
            out[c] = a * cos - b * sin;
            out[C + c] = b * cos + a * sin;
        }
}

static void copy(long rows, long K, const float *x, long xm, float *out, long om)
{
    for (long r = 0; r < rows; r++) memcpy(out + r * om, x + r * xm, K * sizeof *x);
}

// Scores to weights, for queries from `first`, a multiple of SUB, on, and keys up to first + SUB
static void softmax(long first, long rows, float *p, long stride)
{
    ivec lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    for (long r = 0; r < rows; r++, p += stride) {
        vec most = (vec){0} - INFINITY, sum = {0};
        for (long j = 0; j < first; j += VL) most = larger(load(p + j), most);
        for (long j = first; j < first + SUB; j += VL) {
            vec x = choose(lane > (int32_t)(first + r - j), (vec){0} - INFINITY, load(p + j));
            store(p + j, x);
            most = larger(x, most);
        }
        float top = largest(most);
        for (long j = 0; j < first + SUB; j += VL) {
            vec e = expv(load(p + j) - top);
            sum += e;
            store(p + j, e);
        }
        float over = 1 / total(sum);
        for (long j = 0; j < first + SUB; j += VL) store(p + j, load(p + j) * over);
    }
}

// Scores' gradients from those of weights: ds = p (dp - the sum of p dp), which is that of do o
static void softmax_backward(long rows, long columns, const float *p, const float *along, float *ds, long stride)
{
    for (long r = 0; r < rows; r++, p += stride, ds += stride)
        for (long j = 0; j < columns; j += VL) {
            __builtin_prefetch(p + 2 * stride + j);  // likewise
            store(ds + j, (load(ds + j) - along[r]) * load(p + j));
        }
}

// Row by row the sum of x y
static void dots(long rows, long K, long stride, const float *x, const float *y, float *out)
{
    for (long r = 0; r < rows; r++, x += stride, y += stride) {
        vec sum = {0};
        long k = 0;
        for (; k + VL <= K; k += VL) sum += load(x + k) * load(y + k);
        out[r] = total(sum);
        for (; k < K; k++) out[r] += x[k] * y[k];
    }
}

void attention_forward(
    const Shape *s, float eps, const float *cosine, const float *sine, const float *x, const float *gain, const float *w_qkv, const float *w_out, float *kept,
    float *scratch, float *out)
{
    Sizes z = sizes_of(s);
    long T = s->T, D = s->D, H = s->H, G = s->G, K = s->K, C = K / 2;
    Kept c;
    Forward f;
    lay_forward(s, z, scratch, &f);
    pack(f.w_qkv, w_qkv, D, 1, z.E, D, 0, gain);
    pack(f.w_out, w_out, z.A, 1, D, z.A, 0, 0);
    for (long b = 0; b < s->B; b++, x += T * D, out += T * D) {
        kept += keep(s, z, kept, &c);
        for (long t = 0, rows; t < T; t += rows) {
            rows = least(ROWS, T - t);
            norm(rows, D, eps, x + t * D, f.h, c.scale + t);
            product(rows, z.E, D, f.h, z.Dp, 1, f.w_qkv, -z.E, f.qkv, z.Ep, 0);
            for (long i = 0; i < H; i++) turn(rows, K, f.qkv + i * K, z.Ep, cosine + t * C, sine + t * C, 1, 1 / sqrtf(K), c.q + (i * T + t) * K, K);
            for (long i = 0; i < G; i++) turn(rows, K, f.qkv + (H + i) * K, z.Ep, cosine + t * C, sine + t * C, 1, 1, c.k + (i * T + t) * K, K);
            for (long i = 0; i < G; i++) copy(rows, K, f.qkv + (H + G + i) * K, z.Ep, c.v + (i * T + t) * K, K);
        }
        for (long i = 0; i < H; i++) {
            const float *q = c.q + i * T * K, *k = c.k + i / (H / G) * T * K, *v = c.v + i / (H / G) * T * K;
            float *p = c.p + i * z.weights;
            if (i % (H / G) == 0) pack(f.keys, k, K, 1, T, K, 0, 0);
            for (long start = 0; start < T; start += BLOCK) {
                long stride = least(start + BLOCK, z.Tp), end = least(start + BLOCK, T);
                for (long t = start; t < end; t += SUB) {
                    long rows = least(SUB, T - t), seen = least(t + SUB, T);
                    float *at = p + (t - start) * stride;
                    product(rows, seen, K, q + t * K, K, 1, f.keys, -T, at, stride, 0);
                    softmax(t, rows, at, stride);
                    product(rows, K, seen, at, stride, 1, v, K, c.o + t * z.Ap + i * K, z.Ap, 0);
                }
                p += BLOCK * stride;
            }
        }
        for (long t = 0, rows; t < T; t += rows) {
            rows = least(ROWS, T - t);
            product(rows, D, z.A, c.o + t * z.Ap, z.Ap, 1, f.w_out, -D, f.h, z.Dp, 0);
            add(rows, D, x + t * D, f.h, out + t * D);
        }
    }
}

void attention_backward(
    const Shape *s, const float *cosine, const float *sine, const float *x, const float *gain, const float *w_qkv, const float *w_out, const float *kept,
    float *scratch, const float *dy, float *dx, float *dgain, float *dw_qkv, float *dw_out)
{
    Sizes z = sizes_of(s);
    long T = s->T, D = s->D, H = s->H, G = s->G, K = s->K, Kp = z.Kp;
    Kept c;
    Backward f;
    lay_backward(s, z, scratch, &f);
    pack(f.w_qkv, w_qkv, 1, D, D, z.E, gain, 0);
    pack(f.w_out, w_out, 1, z.A, z.A, D, 0, 0);
    for (long b = 0; b < s->B; b++, x += T * D, dy += T * D, dx += T * D) {
        kept += keep(s, z, (float *)kept, &c);
        for (long t = 0, rows; t < T; t += rows) {
            rows = least(ROWS, T - t);
            product(rows, z.A, D, dy + t * D, D, 1, f.w_out, -z.A, f.d_o + t * z.Ap, z.Ap, 0);
            product(D, z.A, rows, dy + t * D, 1, D, c.o + t * z.Ap, z.Ap, f.dw_out, z.Ap, b + t > 0);
        }
        for (long i = 0; i < H; i++) {
            long g = i / (H / G);
            const float *q = c.q + i * T * K, *k = c.k + g * T * K, *p = c.p + i * z.weights, *d_o = f.d_o + i * K;
            if (i % (H / G) == 0) {
                pack(f.values, c.v + g * T * K, K, 1, T, K, 0, 0);
                memset(f.dk, 0, T * Kp * sizeof *f.dk);
                memset(f.dv, 0, T * Kp * sizeof *f.dv);
            }
            dots(T, K, z.Ap, d_o, c.o + i * K, f.along);
            for (long start = 0; start < T; start += BLOCK) {
                long stride = least(start + BLOCK, z.Tp), end = least(start + BLOCK, T);
                for (long t = start; t < end; t += SUB) {
                    long rows = least(SUB, T - t), seen = least(t + SUB, T);
                    float *ds = f.ds + (t - start) * stride;
                    product(rows, seen, K, d_o + t * z.Ap, z.Ap, 1, f.values, -T, ds, stride, 0);
                    softmax_backward(rows, seen, p + (t - start) * stride, f.along + t, ds, stride);
                    product(rows, K, seen, ds, stride, 1, k, K, f.dq + t * Kp, Kp, 0);
                }
                product(start, K, end - start, f.ds, 1, stride, q + start * K, K, f.dk, Kp, 1);
                product(start, K, end - start, p, 1, stride, d_o + start * z.Ap, z.Ap, f.dv, Kp, 1);
                for (long t = start; t < end; t += SUB) {  // of the block's own keys: queries from them on
                    long rows = least(SUB, T - t), at = (t - start) * stride + t;
                    product(rows, K, end - t, f.ds + at, 1, stride, q + t * K, K, f.dk + t * Kp, Kp, 1);
                    product(rows, K, end - t, p + at, 1, stride, d_o + t * z.Ap, z.Ap, f.dv + t * Kp, Kp, 1);
                }
                p += BLOCK * stride;
            }
            turn(T, K, f.dq, Kp, cosine, sine, -1, 1 / sqrtf(K), f.dqkv + i * K, z.Ep);
            if ((i + 1) % (H / G) == 0) {
                turn(T, K, f.dk, Kp, cosine, sine, -1, 1, f.dqkv + (H + g) * K, z.Ep);
                copy(T, K, f.dv, Kp, f.dqkv + (H + G + g) * K, z.Ep);
            }
        }
        for (long t = 0, rows; t < T; t += rows) {
            rows = least(ROWS, T - t);
            norm_again(rows, D, x + t * D, c.scale + t, f.h);
            product(z.E, D, rows, f.dqkv + t * z.Ep, 1, z.Ep, f.h, z.Dp, f.dw_qkv, z.Dp, b + t > 0);
            product(rows, D, z.E, f.dqkv + t * z.Ep, z.Ep, 1, f.w_qkv, -D, f.dh, z.Dp, 0);
            norm_backward(rows, D, f.dh, f.h, c.scale + t, dy + t * D, dx + t * D);
        }
    }
    ungained(z.E, D, f.dw_qkv, w_qkv, gain, dw_qkv, dgain);
    unpadded(D, z.A, z.Ap, f.dw_out, dw_out);
}

// ---- feed-forward ---------------------------------------------------------------------------------------------------------------------------------------

long feed_forward_kept(const Shape *s) { return up(s->B * s->T, VL) + s->B * s->T * 2 * up(s->F, VL) + BEYOND; }  // scales; of a token its gate, then the rest

typedef struct { float *w_gate, *w_up, *w_out, *dw_in, *dw_out, *h, *dh, *act, *dact, *dgate_up; } Unit;

static long lay_unit(const Shape *s, float *buffer, Unit *f)
{
    long n = 0, D = s->D, F = s->F, Dp = up(D, VL), Fp = up(F, VL);
    f->w_gate = take(buffer, &n, packed(F, D) > packed(D, F) ? packed(F, D) : packed(D, F));
    f->w_up = take(buffer, &n, packed(F, D) > packed(D, F) ? packed(F, D) : packed(D, F));
    f->w_out = take(buffer, &n, packed(F, D) > packed(D, F) ? packed(F, D) : packed(D, F));
    f->dw_in = take(buffer, &n, 2 * F * Dp);
    f->dw_out = take(buffer, &n, D * Fp);
    f->h = take(buffer, &n, ROWS * Dp);
    f->dh = take(buffer, &n, ROWS * Dp);
    f->act = take(buffer, &n, ROWS * Fp);
    f->dact = take(buffer, &n, ROWS * Fp);
    f->dgate_up = take(buffer, &n, ROWS * 2 * Fp);
    return n + BEYOND;
}

long feed_forward_scratch(const Shape *s)
{
    Unit f;
    return lay_unit(s, 0, &f);
}

// act = silu(gate) up (Shazeer 2020, Eq. 6)
static void unit(long rows, long Fp, const float *gate_up, float *act)
{
    for (long r = 0; r < rows; r++, gate_up += 2 * Fp, act += Fp)
        for (long f = 0; f < Fp; f += VL) {
            vec gate = load(gate_up + f);
            store(act + f, gate / (1.0f + expv(-gate)) * load(gate_up + Fp + f));
        }
}

// act again, and the gradients of gate and up from that of act
static void unit_backward(long rows, long Fp, const float *gate_up, const float *dact, float *act, float *dgate_up)
{
    for (long r = 0; r < rows; r++, gate_up += 2 * Fp, act += Fp, dact += Fp, dgate_up += 2 * Fp)
        for (long f = 0; f < Fp; f += VL) {
            __builtin_prefetch(gate_up + 4 * Fp + f);  // two rows on: they were written a whole pass ago
            __builtin_prefetch(gate_up + 5 * Fp + f);
            vec gate = load(gate_up + f), rest = load(gate_up + Fp + f), d = load(dact + f);
            vec sigmoid = 1.0f / (1.0f + expv(-gate)), silu = gate * sigmoid;
            store(act + f, silu * rest);
            store(dgate_up + f, d * rest * (sigmoid + silu * (1.0f - sigmoid)));
            store(dgate_up + Fp + f, d * silu);
        }
}

void feed_forward_forward(
    const Shape *s, float eps, const float *x, const float *gain, const float *w_in, const float *w_out, float *kept, float *scratch, float *out)
{
    long M = s->B * s->T, D = s->D, F = s->F, Dp = up(D, VL), Fp = up(F, VL);
    float *scale = kept, *gate_up = kept + up(M, VL);
    Unit f;
    lay_unit(s, scratch, &f);
    pack(f.w_gate, w_in, D, 1, F, D, 0, gain);
    pack(f.w_up, w_in + F * D, D, 1, F, D, 0, gain);
    pack(f.w_out, w_out, F, 1, D, F, 0, 0);
    for (long m = 0, rows; m < M; m += rows, x += rows * D, out += rows * D, gate_up += rows * 2 * Fp) {
        rows = least(ROWS, M - m);
        norm(rows, D, eps, x, f.h, scale + m);
        product(rows, F, D, f.h, Dp, 1, f.w_gate, -F, gate_up, 2 * Fp, 0);
        product(rows, F, D, f.h, Dp, 1, f.w_up, -F, gate_up + Fp, 2 * Fp, 0);
        unit(rows, Fp, gate_up, f.act);
        product(rows, D, F, f.act, Fp, 1, f.w_out, -D, f.h, Dp, 0);
        add(rows, D, x, f.h, out);
    }
}

void feed_forward_backward(
    const Shape *s, const float *x, const float *gain, const float *w_in, const float *w_out, const float *kept, float *scratch, const float *dy, float *dx,
    float *dgain, float *dw_in, float *dw_out)
{
    long M = s->B * s->T, D = s->D, F = s->F, Dp = up(D, VL), Fp = up(F, VL);
    const float *scale = kept, *gate_up = kept + up(M, VL);
    Unit f;
    lay_unit(s, scratch, &f);
    pack(f.w_gate, w_in, 1, D, D, F, gain, 0);
    pack(f.w_up, w_in + F * D, 1, D, D, F, gain, 0);
    pack(f.w_out, w_out, 1, F, F, D, 0, 0);
    for (long m = 0, rows; m < M; m += rows, x += rows * D, dy += rows * D, dx += rows * D, gate_up += rows * 2 * Fp) {
        rows = least(ROWS, M - m);
        product(rows, F, D, dy, D, 1, f.w_out, -F, f.dact, Fp, 0);
        unit_backward(rows, Fp, gate_up, f.dact, f.act, f.dgate_up);
        norm_again(rows, D, x, scale + m, f.h);
        product(D, F, rows, dy, 1, D, f.act, Fp, f.dw_out, Fp, m > 0);
        product(F, D, rows, f.dgate_up, 1, 2 * Fp, f.h, Dp, f.dw_in, Dp, m > 0);
        product(F, D, rows, f.dgate_up + Fp, 1, 2 * Fp, f.h, Dp, f.dw_in + F * Dp, Dp, m > 0);
        product(rows, D, F, f.dgate_up, 2 * Fp, 1, f.w_gate, -D, f.dh, Dp, 0);
        product(rows, D, F, f.dgate_up + Fp, 2 * Fp, 1, f.w_up, -D, f.dh, Dp, 1);
        norm_backward(rows, D, f.dh, f.h, scale + m, dy, dx);
    }
    ungained(2 * F, D, f.dw_in, w_in, gain, dw_in, dgain);
    unpadded(D, F, Fp, f.dw_out, dw_out);
}

// ---- loss -----------------------------------------------------------------------------------------------------------------------------------------------

typedef struct { float *w_to, *w_from, *dw, *h, *dh, *logits, *scale; } Head;

static long lay_head(const Shape *s, long rows, float *buffer, Head *f)
{
    long n = 0, D = s->D, V = s->V, Dp = up(D, VL), Vp = up(V, VL);
    f->w_to = take(buffer, &n, packed(V, D));
    f->w_from = take(buffer, &n, packed(D, V));
    f->dw = take(buffer, &n, V * Dp);
    f->h = take(buffer, &n, rows * Dp);
    f->dh = take(buffer, &n, rows * Dp);
    f->logits = take(buffer, &n, rows * Vp);
    f->scale = take(buffer, &n, rows);
    return n + BEYOND;
}

// Tokens at once, so that a large vocabulary's logits are never all there
static long rows_at_once(const Shape *s, long logits) { return least(ROWS, logits / s->V > 0 ? logits / s->V : 1); }

long loss_scratch(const Shape *s, long logits)
{
    Head f;
    return lay_head(s, rows_at_once(s, logits), 0, &f);
}

// The sum over targets of the cross-entropy, and of z_loss times the squared log of the softmax's sum, times `share`; its gradients too, if dx is there
double loss(
    const Shape *s, long logits, float eps, float z_loss, float share, const float *x, const float *gain, const float *w, const int64_t *targets,
    float *scratch, float *dx, float *dgain, float *dw)
{
    long M = s->B * s->T, D = s->D, V = s->V, Dp = up(D, VL), Vp = up(V, VL), most = rows_at_once(s, logits);
    double sum = 0;
    Head f;
    lay_head(s, most, scratch, &f);
    pack(f.w_to, w, D, 1, V, D, 0, gain);
    if (dx) pack(f.w_from, w, 1, D, D, V, gain, 0);
    for (long m = 0, rows; m < M; m += rows, x += rows * D, targets += rows) {
        rows = least(most, M - m);
        norm(rows, D, eps, x, f.h, f.scale);
        product(rows, V, D, f.h, Dp, 1, f.w_to, -V, f.logits, Vp, 0);
        for (long r = 0; r < rows; r++) {
            float *row = f.logits + r * Vp, hit = row[targets[r]];
            vec tops = (vec){0} - INFINITY, exps = {0};
            for (long v = V; v < Vp; v++) row[v] = -INFINITY;
            for (long v = 0; v < Vp; v += VL) tops = larger(load(row + v), tops);
            float top = largest(tops);
            for (long v = 0; v < Vp; v += VL) {
                vec e = expv(load(row + v) - top);
                exps += e;
                store(row + v, e);
            }
            float all = total(exps), z = top + logf(all), times = (1 + 2 * z_loss * z) * share / all;
            sum += z - hit + z_loss * z * z;
            for (long v = 0; v < Vp; v += VL) store(row + v, load(row + v) * times);  // the logits' gradient, from here on
            row[targets[r]] -= share;
        }
        if (!dx) continue;
        product(V, D, rows, f.logits, 1, Vp, f.h, Dp, f.dw, Dp, m > 0);
        product(rows, D, V, f.logits, Vp, 1, f.w_from, -D, f.dh, Dp, 0);
        norm_backward(rows, D, f.dh, f.h, f.scale, 0, dx);
        dx += rows * D;
    }
    if (dx) ungained(V, D, f.dw, w, gain, dw, dgain);
    return sum * share;
}
