// Calls every kernel once with buffers of exactly the size that it asks for, for a sanitizer to watch.
#include "_kernels.c"
#include <stdio.h>
#include <stdlib.h>

static float *some(long n)
{
    float *x = malloc(n * sizeof *x);
    for (long i = 0; i < n; i++) x[i] = (float)(i * 7919 % 1000) / 1000 - 0.5f;
    return x;
}

int main(int argc, char **argv)
{
    Shape s = {0};
    for (int i = 0; i < 8 && i + 1 < argc; i++) ((long *)&s)[i] = atol(argv[i + 1]);
    long M = s.B * s.T, D = s.D, A = s.H * s.K, E = A + 2 * s.G * s.K, F = s.F, V = s.V, C = s.T * s.K / 2;
    float *cosine = some(C), *sine = some(C), *x = some(M * D), *gain = some(D), *y = some(M * D), *dx = some(M * D), *dgain = some(D);
    float *w_qkv = some(E * D), *w_o = some(D * A), *dw_qkv = some(E * D), *dw_o = some(D * A), *kept = some(attention_kept(&s)), *scratch = some(attention_scratch(&s));
    attention_forward(&s, 1e-5f, cosine, sine, x, gain, w_qkv, w_o, kept, scratch, y);
    attention_backward(&s, cosine, sine, x, gain, w_qkv, w_o, kept, scratch, y, dx, dgain, dw_qkv, dw_o);
    float *w_in = some(2 * F * D), *w_out = some(D * F), *dw_in = some(2 * F * D), *dw_out = some(D * F);
    kept = some(feed_forward_kept(&s)), scratch = some(feed_forward_scratch(&s));
    feed_forward_forward(&s, 1e-5f, x, gain, w_in, w_out, kept, scratch, y);
    feed_forward_backward(&s, x, gain, w_in, w_out, kept, scratch, y, dx, dgain, dw_in, dw_out);
    int64_t *targets = malloc(M * sizeof *targets);
    for (long m = 0; m < M; m++) targets[m] = m % V;
    float *w = some(V * D), *dw = some(V * D);
    scratch = some(loss_scratch(&s, 5 * V));
    double learned = loss(&s, 5 * V, 1e-5f, 1e-3f, 1.0f / M, x, gain, w, targets, scratch, dx, dgain, dw);
    double scored = loss(&s, 5 * V, 1e-5f, 1e-3f, 1.0f / M, x, gain, w, targets, scratch, 0, 0, 0);
    printf("%.6f %.6f\n", learned, scored);
    return learned != scored;
}
