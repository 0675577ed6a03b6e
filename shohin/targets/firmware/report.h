/* The report: lines of words and numbers in a file on the host, which Python reads back (board.py). */
#ifndef SHOHIN_REPORT_H
#define SHOHIN_REPORT_H
#include <stdint.h>

/* Opens the report; ends the program with exit code 3 if that fails. */
void report_open(void);
/* One line "word 0x1 0x2 ..." of `count` numbers in hexadecimal. */
void report_line(const char *word, uint32_t count, const uint64_t *values);
/* Writes "fail <reason>" and ends the program with exit code 2. */
_Noreturn void report_fail(const char *reason);

#endif
