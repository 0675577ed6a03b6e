/* A network as a WebAssembly module: its buffers lie in the module's memory, and it runs on them. */
#include "network.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FUNCTION(f) JOIN(SHOHIN_NAME, f)
#define SIZE(s) JOIN(SHOHIN_MACRO, s)
#define EXPORT(name) __attribute__((export_name(#name), used))

static _Alignas(16) SHOHIN_ELEMENT in[SIZE(_INPUT_SIZE)], out[SIZE(_OUTPUT_SIZE)];
static _Alignas(64) unsigned char arena[SIZE(_ARENA_SIZE)];

EXPORT(input) void *shohin_input(void) { return in; }
EXPORT(output) void *shohin_output(void) { return out; }
EXPORT(arena) void *shohin_arena(void) { return arena; }
EXPORT(input_size) int shohin_input_size(void) { return SIZE(_INPUT_SIZE); }
EXPORT(output_size) int shohin_output_size(void) { return SIZE(_OUTPUT_SIZE); }
EXPORT(arena_size) int shohin_arena_size(void) { return SIZE(_ARENA_SIZE); }
EXPORT(selfcheck) int shohin_selfcheck(void) { return FUNCTION(_selfcheck)(); }
EXPORT(run) int shohin_run(void) { return FUNCTION(_run)(in, out, arena); }

#if defined SHOHIN_STATE
EXPORT(reset) void shohin_reset(void) { FUNCTION(_reset)(arena); }
#endif

#if defined SHOHIN_QUANTIZED
static float real_in[SIZE(_INPUT_SIZE)], real_out[SIZE(_OUTPUT_SIZE)];

EXPORT(real_input) void *shohin_real_input(void) { return real_in; }
EXPORT(real_output) void *shohin_real_output(void) { return real_out; }
EXPORT(quantize) void shohin_quantize(void) { FUNCTION(_quantize)(real_in, in); }
EXPORT(dequantize) void shohin_dequantize(void) { FUNCTION(_dequantize)(out, real_out); }
#endif
