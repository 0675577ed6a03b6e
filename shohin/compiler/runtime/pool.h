/* Steps of a compiled program and the pool that runs them. Plain data: Python fills it through ctypes. */
#ifndef SHOHIN_POOL_H
#define SHOHIN_POOL_H

typedef void (*shohin_fn)(void *const *b, char *shared, char *scratch, long chunk, long chunks);

/* One phase. `b` is table + `table`; `shared` and `scratch` are offsets into the arena, one scratch per thread every
   `stride` bytes. A step with `serial` runs on the calling thread.
   `kind`: 0 a step; 1 a jump to step `chunks`; 2, 3 the same if the byte at table[`table`] is not 0, or is 0. */
typedef struct {
    shohin_fn fn;
    long table, shared, scratch, stride, chunks;
    int serial, kind;
} shohin_step;

typedef struct shohin_pool shohin_pool;

shohin_pool *shohin_pool_new(int threads);
void shohin_pool_free(shohin_pool *pool);

/* Runs all steps in order. pool may be NULL: on the calling thread alone. */
int shohin_run(shohin_pool *pool, const shohin_step *steps, long count, void *const *table, char *arena);

#endif
