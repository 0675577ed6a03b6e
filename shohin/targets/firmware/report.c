#include "report.h"
#include "semihost.h"

static int32_t report = -1;

static uint32_t append(char *line, uint32_t at, const char *text)
{
    while (*text) line[at++] = *text++;
    return at;
}

void report_open(void)
{
    report = semihost_open("report.txt", SEMIHOST_WRITE_BINARY);
    if (report < 0) {
        semihost_print("shohin: cannot open report.txt\n");
        semihost_exit(3);
    }
}

static void write_line(const char *line, uint32_t length)
{
    if (report < 0 || semihost_write(report, line, length) != 0) {
        semihost_print("shohin: cannot write report.txt\n");
        semihost_exit(3);
    }
}

void report_line(const char *word, uint32_t count, const uint64_t *values)
{
    char line[160];
    uint32_t at = append(line, 0, word);
    for (uint32_t i = 0; i < count; ++i) { /* hexadecimal: 64-bit division would need the compiler's library */
        at = append(line, at, " 0x");
        int32_t shift = 60;
        while (shift > 0 && !((values[i] >> shift) & 15)) shift -= 4;
        for (; shift >= 0; shift -= 4) line[at++] = "0123456789abcdef"[(values[i] >> shift) & 15];
    }
    line[at++] = '\n';
    write_line(line, at);
}

_Noreturn void report_fail(const char *reason)
{
    char line[160];
    uint32_t at = append(line, append(line, 0, "fail "), reason);
    line[at++] = '\n';
    write_line(line, at);
    semihost_exit(2);
}
