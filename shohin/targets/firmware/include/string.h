/* The part of the C library's string.h that exported C uses, for compilers that come without a library. */
#ifndef SHOHIN_STRING_H
#define SHOHIN_STRING_H
#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *left, const void *right, size_t n);

#endif
