/* Runs a network many times in one call, so that neither Python nor its foreign-function interface is measured. */
#if !defined _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include "network.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FUNCTION(f) JOIN(SHOHIN_NAME, f)
#define SIZE(s) JOIN(SHOHIN_MACRO, s)

typedef SHOHIN_ELEMENT Element;

/* The shared object itself knows its sizes: a stale one is noticed. */
int64_t shohin_driver_size(int32_t which);
int64_t shohin_driver_run(const Element *in, Element *out, void *arena, int64_t count);
int32_t shohin_driver_time(const Element *in, Element *out, void *arena, int64_t repeats, int64_t batch, double *seconds);
void shohin_driver_quantize(const float *in, int8_t *out, int64_t count);
void shohin_driver_dequantize(const int8_t *in, float *out, int64_t count);

int64_t shohin_driver_size(int32_t which)
{
    const int64_t sizes[4] = {SIZE(_INPUT_SIZE), SIZE(_OUTPUT_SIZE), SIZE(_ARENA_SIZE), (int64_t)sizeof(Element)};
    return sizes[which & 3];
}

/* `count` on success, else the index of the first input that failed. */
int64_t shohin_driver_run(const Element *in, Element *out, void *arena, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        if (FUNCTION(_run)(in + i * SIZE(_INPUT_SIZE), out + i * SIZE(_OUTPUT_SIZE), arena) != 0) return i;
    return count;
}

#if defined SHOHIN_STATE
void shohin_driver_reset(void *arena);
void shohin_driver_reset(void *arena) { FUNCTION(_reset)(arena); }
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* seconds[i] = the mean of `batch` runs in a row, each of one input. */
int32_t shohin_driver_time(const Element *in, Element *out, void *arena, int64_t repeats, int64_t batch, double *seconds)
{
    int32_t failed = 0;
    for (int64_t i = 0; i < repeats; ++i) {
        const double start = now();
        for (int64_t k = 0; k < batch; ++k) failed |= FUNCTION(_run)(in, out, arena);
        seconds[i] = (now() - start) / (double)batch;
    }
    return failed;
}

#if defined SHOHIN_QUANTIZED
void shohin_driver_quantize(const float *in, int8_t *out, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) FUNCTION(_quantize)(in + i * SIZE(_INPUT_SIZE), out + i * SIZE(_INPUT_SIZE));
}

void shohin_driver_dequantize(const int8_t *in, float *out, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) FUNCTION(_dequantize)(in + i * SIZE(_OUTPUT_SIZE), out + i * SIZE(_OUTPUT_SIZE));
}
#endif
