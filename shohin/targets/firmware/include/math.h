/* The part of the C library's math.h that exported C uses: functions that are one exact instruction with an FPU. */
#ifndef SHOHIN_MATH_H
#define SHOHIN_MATH_H

#define sqrtf(x) __builtin_sqrtf(x)
#define fabsf(x) __builtin_fabsf(x)
#define fmaf(a, b, c) __builtin_fmaf(a, b, c)
#define rintf(x) __builtin_rintf(x)

#endif
