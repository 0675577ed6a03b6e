/* Elapsed ticks of SysTick, the one timer that every Cortex-M has. */
#ifndef SHOHIN_CLOCK_H
#define SHOHIN_CLOCK_H
#include <stdint.h>

/* Restarts the clock at zero, so that equal work gives equal ticks whatever ran before. */
void clock_start(void);
/* Ticks of the processor clock since clock_start. */
uint64_t clock_ticks(void);
/* The SysTick interrupt: one wrap of the 24-bit counter. */
void clock_wrapped(void);

#endif
