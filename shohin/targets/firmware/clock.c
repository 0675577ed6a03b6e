#include "clock.h"

#define SYST_CSR (*(volatile uint32_t *)0xe000e010u)
#define SYST_RVR (*(volatile uint32_t *)0xe000e014u)
#define SYST_CVR (*(volatile uint32_t *)0xe000e018u)

enum { TOP = 0xffffff, ENABLE = 1, INTERRUPT = 2, PROCESSOR_CLOCK = 4 };

static volatile uint32_t wraps;

void clock_start(void)
{
    SYST_CSR = 0;
    SYST_RVR = TOP;
    SYST_CVR = 0; /* any write clears the counter; it reloads on the next tick */
    wraps = 0;
    SYST_CSR = ENABLE | INTERRUPT | PROCESSOR_CLOCK;
    while (SYST_CVR == 0) { /* until reloaded: a count is read as TOP - CVR */
    }
}

uint64_t clock_ticks(void)
{
    uint32_t before, value;
    do { /* at 0 the wrap is already counted but the counter is not yet reloaded: look again */
        before = wraps;
        value = SYST_CVR;
    } while (value == 0 || before != wraps);
    return (uint64_t)before * ((uint64_t)TOP + 1) + (TOP - value);
}

void clock_wrapped(void) { ++wraps; }
