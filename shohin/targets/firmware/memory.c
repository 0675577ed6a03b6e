/* The memory functions that a C compiler may call even in freestanding code, with the names of the C
 * library and of the ARM EABI. A device's own C library replaces them: they are no part of a network's size. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Words without alignment: single loads and stores may be unaligned from ARMv7-M on. With MVE the loops over
 * bytes become sixteen lanes wide, while word vectors would have to be aligned. */
#if defined __ARM_FEATURE_MVE
typedef unsigned char Chunk;
#else
typedef uint32_t __attribute__((aligned(1), may_alias)) Chunk;
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    unsigned char *d = to;
    const unsigned char *s = from;
    size_t i = 0;
    for (; i + sizeof(Chunk) <= n; i += sizeof(Chunk)) *(Chunk *)(d + i) = *(const Chunk *)(s + i);
    for (; i < n; ++i) d[i] = s[i];
    return to;
}

void *memset(void *to, int value, size_t n)
{
    unsigned char *d = to;
    const Chunk fill = (Chunk)(0x01010101u * (unsigned char)value);
    size_t i = 0;
    for (; i + sizeof(Chunk) <= n; i += sizeof(Chunk)) *(Chunk *)(d + i) = fill;
    for (; i < n; ++i) d[i] = (unsigned char)value;
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    unsigned char *d = to;
    const unsigned char *s = from;
    if ((uintptr_t)d - (uintptr_t)s >= n) return memcpy(to, from, n); /* nothing is read after it was written */
    while (n--) d[n] = s[n];
    return to;
}

int memcmp(const void *left, const void *right, size_t n)
{
    const unsigned char *a = left, *b = right;
    for (size_t i = 0; i < n; ++i)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

/* EABI: memset has its operands the other way round; the suffix promises an alignment that we do not need. */
#define EABI(suffix)                                                                                       \
    void __aeabi_memcpy##suffix(void *d, const void *s, size_t n);                                         \
    void __aeabi_memmove##suffix(void *d, const void *s, size_t n);                                        \
    void __aeabi_memset##suffix(void *d, size_t n, int value);                                             \
    void __aeabi_memclr##suffix(void *d, size_t n);                                                        \
    void __aeabi_memcpy##suffix(void *d, const void *s, size_t n) { memcpy(d, s, n); }                     \
    void __aeabi_memmove##suffix(void *d, const void *s, size_t n) { memmove(d, s, n); }                   \
    void __aeabi_memset##suffix(void *d, size_t n, int value) { memset(d, value, n); }                     \
    void __aeabi_memclr##suffix(void *d, size_t n) { memset(d, 0, n); }
EABI()
EABI(4)
EABI(8)
