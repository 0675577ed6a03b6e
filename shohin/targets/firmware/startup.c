/* From reset to main on any Cortex-M with a vector table: FPU and MVE on, .data copied, .bss cleared. */
#include <stdint.h>
#include "clock.h"
#include "report.h"
#include "semihost.h"

extern uint32_t shohin_data_start[], shohin_data_end[], shohin_data_load[];
extern uint32_t shohin_bss_start[], shohin_bss_end[], shohin_stack_top[];
extern uint32_t shohin_ram_start[], shohin_ram_end[];

int main(void);
void reset(void);
void fault(void);
void fault_report(const uint32_t *frame, uint32_t number);
void start(void);

#define SCB_CPACR (*(volatile uint32_t *)0xe000ed88u)
#define SCB_CFSR (*(volatile uint32_t *)0xe000ed28u)
#define SCB_HFSR (*(volatile uint32_t *)0xe000ed2cu)

typedef union {
    void (*handler)(void);
    uint32_t *stack;
} Vector;

__attribute__((section(".vectors"), used)) static const Vector vectors[16] = {
    {.stack = shohin_stack_top}, {reset}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault},
    {fault}, {fault}, {fault}, {fault}, {fault}, {fault}, {fault}, {clock_wrapped},
};

/* Naked: a compiler may use floating-point registers in any prologue, so the FPU comes first. */
__attribute__((naked, used)) void reset(void)
{
    __asm__ volatile("ldr r0, =0xe000ed88\n\t" /* CPACR: full access to coprocessors 10 and 11, FPU and MVE */
                     "ldr r1, [r0]\n\t"
                     "orr r1, r1, #0xf00000\n\t"
                     "str r1, [r0]\n\t"
                     "dsb\n\t"
                     "isb\n\t"
                     "bl start\n\t"
                     ".ltorg");
}

__attribute__((used)) void start(void)
{
    const uint32_t *from = shohin_data_load;
    for (volatile uint32_t *to = shohin_data_start; to < shohin_data_end; ++to) *to = *from++;
    for (volatile uint32_t *to = shohin_bss_start; to < shohin_bss_end; ++to) *to = 0;
    report_open();
    semihost_exit((uint32_t)main());
}

/* Which stack holds the exception's frame stands in bit 2 of EXC_RETURN. */
__attribute__((naked, used)) void fault(void)
{
    __asm__ volatile("tst lr, #4\n\t"
                     "ite eq\n\t"
                     "mrseq r0, msp\n\t"
                     "mrsne r0, psp\n\t"
                     "mrs r1, ipsr\n\t"
                     "b fault_report");
}

__attribute__((used)) void fault_report(const uint32_t *frame, uint32_t number)
{
    /* After a stack overflow the frame itself is out of memory, and reading it would lock the processor up. */
    const int readable = frame >= shohin_ram_start && frame + 8 <= shohin_ram_end;
    const uint64_t values[4] = {number, SCB_CFSR, SCB_HFSR, readable ? frame[6] : 0xffffffffu};
    report_line("fault", 4, values);
    semihost_exit(4);
}
