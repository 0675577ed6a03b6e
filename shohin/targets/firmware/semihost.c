#include "semihost.h"

enum { OPEN = 0x01, WRITE0 = 0x04, WRITE = 0x05, READ = 0x06, EXIT_EXTENDED = 0x20 };
enum { APPLICATION_EXIT = 0x20026 };

/* On M-profile a call is `bkpt 0xab` with the number in r0 and the address of its arguments in r1. */
static int32_t call(uint32_t number, const void *arguments)
{
    register uint32_t r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

int32_t semihost_open(const char *path, int32_t mode)
{
    uint32_t length = 0;
    while (path[length]) ++length;
    const uint32_t arguments[3] = {(uint32_t)path, (uint32_t)mode, length};
    return call(OPEN, arguments);
}

uint32_t semihost_read(int32_t handle, void *to, uint32_t bytes)
{
    const uint32_t arguments[3] = {(uint32_t)handle, (uint32_t)to, bytes};
    return bytes - (uint32_t)call(READ, arguments); /* the call answers what is missing */
}

int32_t semihost_write(int32_t handle, const void *from, uint32_t bytes)
{
    const uint32_t arguments[3] = {(uint32_t)handle, (uint32_t)from, bytes};
    return call(WRITE, arguments);
}

void semihost_print(const char *text) { call(WRITE0, text); }

_Noreturn void semihost_exit(uint32_t code)
{
    const uint32_t arguments[2] = {APPLICATION_EXIT, code};
    for (;;) call(EXIT_EXTENDED, arguments);
}
