/* The thread pool: workers run a whole program, meeting at a barrier per parallel step.

   A waiting thread spins about 20 us, then sleeps on a futex (elsewhere: a condition variable): a pure spin beside a
   busy neighbour costs a scheduler slice a barrier. Pieces of a step are taken from each thread's own range first, so
   that the same thread meets the same part of the data again; then from the others. After fork() the child starts
   workers of its own. Two programs at once on one pool: the second runs on its own thread alone. */
#define _GNU_SOURCE
#include "pool.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#define MOST 256
#define SPIN_NS 20000

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

/* A word that threads wait on until it changes. */
typedef struct {
    _Alignas(64) atomic_uint value;
    atomic_int sleepers;
#if !defined(__linux__)
    pthread_mutex_t mutex;
    pthread_cond_t cond;
#endif
} event;

typedef struct {
    _Alignas(64) atomic_long next;
} counter;

struct shohin_pool {
    event go, done;
    _Alignas(64) atomic_int arrived;
    counter counters[MOST];
    int size, started;
    pid_t pid;
    atomic_flag busy;
    atomic_int stop;
    pthread_t handles[MOST];
    const shohin_step *steps;
    long count;
    void *const *table;
    char *arena;
};

static void event_init(event *e) {
    atomic_store(&e->value, 0);
    atomic_store(&e->sleepers, 0);
#if !defined(__linux__)
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->cond, NULL);
#endif
}

static void event_set(event *e) {
#if defined(__linux__)
    atomic_fetch_add(&e->value, 1);
    if (atomic_load(&e->sleepers) > 0) syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, MOST, NULL, NULL, 0);
#else
    pthread_mutex_lock(&e->mutex);
    atomic_fetch_add(&e->value, 1);
    pthread_cond_broadcast(&e->cond);
    pthread_mutex_unlock(&e->mutex);
#endif
}

static long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)(t.tv_sec % 1000000) * 1000000000L + t.tv_nsec;
}

static void event_wait(event *e, unsigned seen) {
    const long start = now_ns();
    do {
        for (int i = 0; i < 64; ++i) {
            if (atomic_load_explicit(&e->value, memory_order_acquire) != seen) return;
            RELAX();
        }
    } while (now_ns() - start < SPIN_NS);
#if defined(__linux__)
    atomic_fetch_add(&e->sleepers, 1);
    while (atomic_load(&e->value) == seen) syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&e->sleepers, 1);
#else
    pthread_mutex_lock(&e->mutex);
    while (atomic_load(&e->value) == seen) pthread_cond_wait(&e->cond, &e->mutex);
    pthread_mutex_unlock(&e->mutex);
#endif
}

static void barrier(shohin_pool *p, int n) {
    const unsigned seen = atomic_load(&p->done.value);
    if (atomic_fetch_add(&p->arrived, 1) == n - 1) {
        for (int t = 0; t < n; ++t) atomic_store_explicit(&p->counters[t].next, 0, memory_order_relaxed);
        atomic_store(&p->arrived, 0);
        event_set(&p->done);
    } else {
        event_wait(&p->done, seen);
    }
}

static void step_piece(const shohin_step *s, void *const *table, char *arena, int slot, long chunk) {
    s->fn(table + s->table, arena + s->shared, arena + s->scratch + s->stride * slot, chunk, s->chunks);
}

/* Where to go on after a jump at i. */
static long jump(const shohin_step *steps, long i, void *const *table) {
    const shohin_step *s = &steps[i];
    const int flag = s->kind == 1 || (*(const unsigned char *)table[s->table] != 0) == (s->kind == 2);
    return flag ? s->chunks : i + 1;
}

static void run_steps(shohin_pool *p, int me) {
    /* copies: once the last barrier has opened, the next run may already write these fields */
    const int n = p->started;
    const long count = p->count;
    const shohin_step *const steps = p->steps;
    void *const *const table = p->table;
    char *const arena = p->arena;
    for (long i = 0; i < count;) {
        const shohin_step *s = &steps[i];
        if (s->kind) {
            i = jump(steps, i, table);
            barrier(p, n); /* nobody may write the flag before all have read it */
            continue;
        }
        ++i;
        if (s->serial) {
            if (me == 0)
                for (long c = 0; c < s->chunks; ++c) step_piece(s, table, arena, 0, c);
            if (i < count && steps[i].serial) continue;
        } else {
            for (int k = 0; k < n; ++k) {
                const int t = (me + k) % n;
                const long lo = s->chunks * t / n, size = s->chunks * (t + 1) / n - lo;
                for (;;) {
                    const long c = atomic_fetch_add_explicit(&p->counters[t].next, 1, memory_order_relaxed);
                    if (c >= size) break;
                    step_piece(s, table, arena, me, lo + c);
                }
            }
        }
        barrier(p, n);
    }
}

typedef struct {
    shohin_pool *pool;
    int me;
    unsigned seen;
} worker_args;

static void *worker(void *raw) {
    const worker_args a = *(worker_args *)raw;
    free(raw);
    unsigned seen = a.seen;
    for (;;) {
        event_wait(&a.pool->go, seen);
        seen = atomic_load(&a.pool->go.value);
        if (atomic_load(&a.pool->stop)) return NULL;
        run_steps(a.pool, a.me);
    }
}

static void reset(shohin_pool *p) {
    event_init(&p->go);
    event_init(&p->done);
    atomic_store(&p->arrived, 0);
    atomic_store(&p->stop, 0);
    atomic_flag_clear(&p->busy);
    for (int t = 0; t < MOST; ++t) atomic_store(&p->counters[t].next, 0);
    p->started = 1;
    p->pid = getpid();
}

shohin_pool *shohin_pool_new(int threads) {
    shohin_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (p == NULL) return NULL;
    p->size = threads < 1 ? 1 : threads > MOST ? MOST : threads;
    reset(p);
    return p;
}

/* All workers take part in every run, so that none can meet the next one half way. */
static void start(shohin_pool *p) {
    while (p->started < p->size) {
        worker_args *a = malloc(sizeof *a);
        if (a == NULL) return;
        *a = (worker_args){p, p->started, atomic_load(&p->go.value)};
        if (pthread_create(&p->handles[p->started], NULL, worker, a) != 0) {
            free(a);
            p->size = p->started;
            return;
        }
        ++p->started;
    }
}

void shohin_pool_free(shohin_pool *p) {
    if (p->pid == getpid()) {
        atomic_store(&p->stop, 1);
        event_set(&p->go);
        for (int t = 1; t < p->started; ++t) pthread_join(p->handles[t], NULL);
    }
    free(p);
}

int shohin_run(shohin_pool *p, const shohin_step *steps, long count, void *const *table, char *arena) {
    if (p != NULL && p->pid != getpid()) reset(p);
    if (p == NULL || p->size < 2 || atomic_flag_test_and_set(&p->busy)) {
        for (long i = 0; i < count;) {
            if (steps[i].kind) {
                i = jump(steps, i, table);
                continue;
            }
            for (long c = 0; c < steps[i].chunks; ++c) step_piece(&steps[i], table, arena, 0, c);
            ++i;
        }
        return 0;
    }
    start(p);
    p->steps = steps;
    p->count = count;
    p->table = table;
    p->arena = arena;
    event_set(&p->go);
    run_steps(p, 0);
    atomic_flag_clear(&p->busy);
    return 0;
}
