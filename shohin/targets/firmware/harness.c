/* Runs a network on each input of a file and reports what it needed.
 *
 * Files, in the emulator's working directory: inputs.bin (read), outputs.bin and report.txt (written).
 * The network runs on a stack of its own. That stack and the arena are painted before each inference and looked
 * through afterwards; the paint alternates, so a network that reads what it never wrote gives other outputs. */
#include <stdint.h>
#include "clock.h"
#include "network.h"
#include "report.h"
#include "semihost.h"
#include "steps.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FUNCTION(f) JOIN(SHOHIN_NAME, f)
#define SIZE(s) JOIN(SHOHIN_MACRO, s)

typedef SHOHIN_ELEMENT Element;
typedef int (*Run)(const Element *in, Element *out, void *arena);

enum { INPUT = SIZE(_INPUT_SIZE), OUTPUT = SIZE(_OUTPUT_SIZE), ARENA = SIZE(_ARENA_SIZE) };
#if defined SHOHIN_STATE /* the end of the arena is kept from call to call, and not painted */
enum { KEPT = SIZE(_STATE_SIZE) };
#else
enum { KEPT = 0 };
#endif
enum { GUARD = 64, ARENA_WORDS = (ARENA + 15) / 16 * 4, FREE_WORDS = ARENA_WORDS - KEPT / 4, STACK_WORDS = SHOHIN_STACK / 4, GUARD_WORDS = GUARD / 4 };

static struct {
    uint32_t below[GUARD_WORDS], words[ARENA_WORDS ? ARENA_WORDS : 4], above[GUARD_WORDS];
} arena __attribute__((aligned(16), section(".shohin_arena")));
/* At the very start of the RAM: an overflow leaves the RAM and faults instead of spoiling something. */
static uint32_t stack[STACK_WORDS] __attribute__((aligned(16), section(".shohin_stack")));
static Element input[INPUT] __attribute__((aligned(16)));
static Element output[OUTPUT] __attribute__((aligned(16)));

int main(void);
int run_on_stack(const Element *in, Element *out, void *memory, Run run, void *top);

/* Calls `run` with the process stack pointer at `top`; interrupts stay on the main stack. */
#define UNUSED __attribute__((unused))
__attribute__((naked, noinline)) int run_on_stack(UNUSED const Element *in, UNUSED Element *out, UNUSED void *memory,
                                                  UNUSED Run run, UNUSED void *top)
{
    __asm__ volatile("push {r4, lr}\n\t"
                     "ldr r4, [sp, #8]\n\t"
                     "msr psp, r4\n\t"
                     "mrs r4, control\n\t"
                     "orr r4, r4, #2\n\t"
                     "msr control, r4\n\t"
                     "isb\n\t"
                     "blx r3\n\t"
                     "mrs r4, control\n\t"
                     "bic r4, r4, #2\n\t"
                     "msr control, r4\n\t"
                     "isb\n\t"
                     "pop {r4, pc}");
}

static void paint(volatile uint32_t *words, uint32_t count, uint32_t colour)
{
    for (uint32_t i = 0; i < count; ++i) words[i] = colour;
}

static uint32_t same(const volatile uint32_t *words, uint32_t count, uint32_t colour)
{
    uint32_t i = 0;
    while (i < count && words[i] == colour) ++i;
    return i;
}

/* Bytes of `words` from its start to the last one that lost its paint. */
static uint32_t used_bytes(const volatile uint32_t *words, uint32_t count, uint32_t colour)
{
    while (count && words[count - 1] == colour) --count;
    if (!count) return 0;
    const uint32_t difference = words[count - 1] ^ colour;
    const uint32_t bytes = difference >> 24 ? 4 : difference >> 16 ? 3 : difference >> 8 ? 2 : 1;
    return (count - 1) * 4 + bytes;
}

#if SHOHIN_STEPS
/* When each step began; the last entry is the end of the last one. */
static uint64_t began[SHOHIN_STEPS + 1];

void shohin_step(int number) { began[number] = clock_ticks(); }
#endif

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

int main(void)
{
    report_line("board", 6, (const uint64_t[]){1, INPUT, OUTPUT, ARENA, sizeof(Element), SHOHIN_STACK});
    const int check = FUNCTION(_selfcheck)();
    report_line("selfcheck", 1, (const uint64_t[]){(uint32_t)check});
    if (check) return 1; /* the arithmetic is not the defined one: every output would be suspect */
    const int32_t from = semihost_open("inputs.bin", SEMIHOST_READ_BINARY);
    const int32_t to = semihost_open("outputs.bin", SEMIHOST_WRITE_BINARY);
    if (from < 0) report_fail("inputs.bin cannot be read");
    if (to < 0) report_fail("outputs.bin cannot be written");

#if defined SHOHIN_STATE
    FUNCTION(_reset)(arena.words);
#endif
    uint32_t stack_bytes = 0, arena_bytes = 0, count = 0;
    for (;; ++count) {
        const uint32_t got = semihost_read(from, input, sizeof input);
        if (got == 0) break;
        if (got != sizeof input) report_fail("inputs.bin ends within an input");
        const uint32_t colour = count & 1 ? 0x5a5a5a5au : 0xa5a5a5a5u;
        paint(arena.below, GUARD_WORDS, colour);
        paint(arena.words, FREE_WORDS, colour);
        paint(arena.above, GUARD_WORDS, colour);
        paint(stack, STACK_WORDS, colour);

        clock_start();
        const int status = run_on_stack(input, output, arena.words, FUNCTION(_run), stack + STACK_WORDS);
        const uint64_t ticks = clock_ticks();

        report_line("run", 3, (const uint64_t[]){count, (uint32_t)status, ticks});
#if SHOHIN_STEPS
        for (uint32_t k = 0; k < SHOHIN_STEPS; ++k) report_line("step", 2, (const uint64_t[]){k, began[k + 1] - began[k]});
#endif
        if (semihost_write(to, output, sizeof output) != 0) report_fail("outputs.bin cannot be written");
        if (same(arena.below, GUARD_WORDS, colour) != GUARD_WORDS) report_fail("the network wrote below its arena");
        if (same(arena.above, GUARD_WORDS, colour) != GUARD_WORDS) report_fail("the network wrote above its arena");
        const uint32_t free_words = same(stack, STACK_WORDS, colour);
        if (free_words < GUARD_WORDS) report_fail("the network's stack is too small");
        stack_bytes = larger(stack_bytes, (STACK_WORDS - free_words) * 4);
        arena_bytes = larger(arena_bytes, KEPT ? ARENA : used_bytes(arena.words, ARENA_WORDS, colour));
    }
    report_line("stack", 1, (const uint64_t[]){stack_bytes});
    report_line("arena", 1, (const uint64_t[]){arena_bytes});
    report_line("end", 1, (const uint64_t[]){count});
    return 0;
}
