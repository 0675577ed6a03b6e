/* The thread pool: the caller walks a program's steps and publishes the pieces of each parallel one; whoever is awake takes some.

   A step is over when its pieces are done, not when all threads have come by: a thread that the system does not run just now
   costs nothing, and the caller alone is never slower than without a pool. Pieces are taken from each thread's own range
   first, so that the same thread meets the same part of the data again; then from the others. A ticket holds the number of
   its step beside what is left of a range, so that who comes late finds nothing to take. A waiting thread spins about 20 us,
   then sleeps on a futex (elsewhere: a condition variable). After fork() the child starts workers of its own. Two programs at
   once on one pool: the second runs on its own thread alone. */
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

/* (step number << 32) | pieces left of one thread's range. */
typedef struct {
    _Alignas(64) atomic_ullong left;
} ticket;

struct shohin_pool {
    event go;   /* the number of the step whose pieces may be taken */
    event done; /* how many of them are done */
    ticket tickets[MOST];
    int size, started;
    pid_t pid;
    atomic_flag busy;
    atomic_int stop;
    pthread_t handles[MOST];
    const shohin_step *step;
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

static void event_add(event *e) {
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

static void step_piece(const shohin_step *s, void *const *table, char *arena, int slot, long chunk) {
    s->fn(table + s->table, arena + s->shared, arena + s->scratch + s->stride * slot, chunk, s->chunks);
}

/* Where to go on after a jump at i. */
static long jump(const shohin_step *steps, long i, void *const *table) {
    const shohin_step *s = &steps[i];
    const int flag = s->kind == 1 || (*(const unsigned char *)table[s->table] != 0) == (s->kind == 2);
    return flag ? s->chunks : i + 1;
}

/* Pieces of step `number`, until none is left; how many were done. */
static unsigned take(shohin_pool *p, int me, unsigned number) {
    const int n = p->started;
    unsigned done = 0;
    for (int k = 0; k < n; ++k) {
        const int t = (me + k) % n;
        unsigned long long left = atomic_load_explicit(&p->tickets[t].left, memory_order_acquire);
        while ((unsigned)(left >> 32) == number && (unsigned)left != 0) {
            if (!atomic_compare_exchange_weak(&p->tickets[t].left, &left, left - 1)) continue;
            const shohin_step *s = p->step; /* stays what it is until this piece is done */
            step_piece(s, p->table, p->arena, me, s->chunks * (t + 1) / n - (long)(unsigned)left);
            ++done;
            if (me != 0) event_add(&p->done);
            left = atomic_load_explicit(&p->tickets[t].left, memory_order_acquire);
        }
    }
    return done;
}

/* A parallel step: all pieces, by whoever takes them. */
static void run_step(shohin_pool *p, const shohin_step *s) {
    const int n = p->started;
    const unsigned number = atomic_load(&p->go.value) + 1;
    p->step = s;
    atomic_store(&p->done.value, 0);
    for (int t = 0; t < n; ++t) {
        const long size = s->chunks * (t + 1) / n - s->chunks * t / n;
        atomic_store_explicit(&p->tickets[t].left, (unsigned long long)number << 32 | (unsigned)size, memory_order_release);
    }
    event_add(&p->go);
    const unsigned others = (unsigned)s->chunks - take(p, 0, number);
    for (unsigned seen; (seen = atomic_load_explicit(&p->done.value, memory_order_acquire)) != others;) event_wait(&p->done, seen);
}

static void run_steps(shohin_pool *p, const shohin_step *steps, long count, void *const *table, char *arena) {
    for (long i = 0; i < count;) {
        const shohin_step *s = &steps[i];
        if (s->kind) {
            i = jump(steps, i, table);
            continue;
        }
        ++i;
        if (p != NULL && !s->serial) run_step(p, s);
        else
            for (long c = 0; c < s->chunks; ++c) step_piece(s, table, arena, 0, c);
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
        take(a.pool, a.me, seen);
    }
}

static void reset(shohin_pool *p) {
    event_init(&p->go);
    event_init(&p->done);
    atomic_store(&p->stop, 0);
    atomic_flag_clear(&p->busy);
    for (int t = 0; t < MOST; ++t) atomic_store(&p->tickets[t].left, 0);
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
        event_add(&p->go);
        for (int t = 1; t < p->started; ++t) pthread_join(p->handles[t], NULL);
    }
    free(p);
}

int shohin_run(shohin_pool *p, const shohin_step *steps, long count, void *const *table, char *arena) {
    if (p != NULL && p->pid != getpid()) reset(p);
    if (p == NULL || p->size < 2 || atomic_flag_test_and_set(&p->busy)) {
        run_steps(NULL, steps, count, table, arena);
        return 0;
    }
    start(p);
    p->table = table;
    p->arena = arena;
    run_steps(p, steps, count, table, arena);
    atomic_flag_clear(&p->busy);
    return 0;
}
