/* network: i8[1,6] -> i8[1,3]. The arena must be aligned to 16 bytes; functions return 0 when all is well. */
#ifndef SHOHIN_NETWORK_H
#define SHOHIN_NETWORK_H
#include <stdint.h>
#define network_INPUT_SIZE 6
#define network_OUTPUT_SIZE 3
#define network_ARENA_SIZE 1504
#ifdef __cplusplus
extern "C" {
#endif
int network_run(const int8_t *in, int8_t *out, void *arena);
int network_selfcheck(void);
void network_quantize(const float *in, int8_t *out);
void network_dequantize(const int8_t *in, float *out);
#ifdef __cplusplus
}
#endif
#endif
