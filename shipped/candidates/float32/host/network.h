/* network: f32[1,6] -> f32[1,3]. The arena must be aligned to 16 bytes; functions return 0 when all is well. */
#ifndef SHOHIN_NETWORK_H
#define SHOHIN_NETWORK_H
#include <stdint.h>
#define network_INPUT_SIZE 6
#define network_OUTPUT_SIZE 3
#define network_ARENA_SIZE 32
#ifdef __cplusplus
extern "C" {
#endif
int network_run(const float *in, float *out, void *arena);
int network_selfcheck(void);
#ifdef __cplusplus
}
#endif
#endif
