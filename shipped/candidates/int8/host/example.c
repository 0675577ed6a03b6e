/* One inference of network on an input of zeros. */
#include <stdio.h>
#include "network.h"

/* The arena is all the memory that the network works in: 64-byte aligned on a computer, 16 on a microcontroller. */
static _Alignas(64) unsigned char arena[network_ARENA_SIZE + 1];
static float real_in[network_INPUT_SIZE], real_out[network_OUTPUT_SIZE];
static int8_t in[network_INPUT_SIZE], out[network_OUTPUT_SIZE];

int main(void)
{
    const int check = network_selfcheck();
    if (check != 0) {
        printf("this build's arithmetic is not the defined one (check %d): look for -ffast-math\n", check);
        return 1;
    }
    network_quantize(real_in, in);
    if (network_run(in, out, arena) != 0) return 1;
    network_dequantize(out, real_out);
    for (int i = 0; i < network_OUTPUT_SIZE; ++i) printf("%d: %d = %g\n", i, (int)out[i], (double)real_out[i]);
    return 0;
}
