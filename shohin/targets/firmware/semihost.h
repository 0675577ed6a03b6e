/* ARM semihosting: the few calls that the harness needs, answered by an emulator or a debugger. */
#ifndef SHOHIN_SEMIHOST_H
#define SHOHIN_SEMIHOST_H
#include <stdint.h>

enum { SEMIHOST_READ_BINARY = 1, SEMIHOST_WRITE_BINARY = 5 };

/* A handle of a file on the host, or -1. */
int32_t semihost_open(const char *path, int32_t mode);
/* Bytes that were read: fewer than asked for only at the end of the file. */
uint32_t semihost_read(int32_t handle, void *to, uint32_t bytes);
/* 0 when all bytes were written. */
int32_t semihost_write(int32_t handle, const void *from, uint32_t bytes);
/* Text for the emulator's console. */
void semihost_print(const char *text);
/* Ends the program; the emulator exits with `code`. */
_Noreturn void semihost_exit(uint32_t code);

#endif
