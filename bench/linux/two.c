/* SPDX-License-Identifier: MIT */
/* What has work for two processors: threads of a process, and jobs of a build. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux.h"

#define AT_ONCE 2u

/* ---- Threads that allocate ---- */

#define LIVE      64u /* blocks of memory at a time */
#define BLOCK_MAX 8192u
#define MAP_EVERY 16u
#define MAP_BYTES (256u << 10)
#define MAP_STEP  (16u << 10)

struct thread {
    pthread_t thread;
    uint64_t n, seed, sum;
};

/* Return: what was read back of a mapping that is gone again. */
static uint64_t map_and_touch(uint64_t seed) {
    uint64_t sum = 0;
    volatile uint8_t *p =
        mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    for (unsigned at = 0; at < MAP_BYTES; at += MAP_STEP)
        p[at] = (uint8_t)(seed + at / MAP_STEP);
    for (unsigned at = 0; at < MAP_BYTES; at += MAP_STEP)
        sum += p[at];
    munmap((void *)(uintptr_t)p, MAP_BYTES);
    return sum;
}

static void *allocate(void *opaque) {
    struct thread *t = opaque;
    uint8_t *block[LIVE] = {NULL};
    for (uint64_t i = 0; i < t->n; i++) {
        uint64_t r = next_random(&t->seed);
        size_t size = 16 + (r >> 16) % (BLOCK_MAX - 16);
        uint8_t **b = &block[r % LIVE];
        t->sum += *b ? **b : 0;
        free(*b);
        *b = malloc(size);
        if (!*b)
            die("malloc");
        memset(*b, (int)(r >> 8 & 255), size);
        if (i % MAP_EVERY == 0)
            t->sum += map_and_touch(r);
    }
    for (unsigned i = 0; i < LIVE; i++)
        free(block[i]);
    return NULL;
}

uint64_t linux_threads(struct job *job) {
    struct thread t[AT_ONCE];
    uint64_t begun = measure_begin();
    for (unsigned i = 0; i < AT_ONCE; i++) {
        t[i] =
            (struct thread){.n = (job->n + i) / AT_ONCE, .seed = 88172645463325252ul + i};
        if ((errno = pthread_create(&t[i].thread, NULL, allocate, &t[i])))
            die("a thread");
    }
    for (unsigned i = 0; i < AT_ONCE; i++) {
        pthread_join(t[i].thread, NULL);
        job->sum = mix(job->sum, t[i].sum);
    }
    return measure_end(begun);
}

/* ---- A build: jobs that are programs, as make -j2 runs them ---- */

#define SOURCE_BYTES (48u << 10)
#define WORD_MAX     12u

struct symbol {
    struct symbol *below[2];
    uint32_t uses, length;
    char name[];
};

/* A source file of words and numbers. */
static void make_source(int fd, uint64_t job) {
    static char text[SOURCE_BYTES];
    uint64_t x = (job + 1) * 0x9e3779b97f4a7c15ul;
    for (size_t at = 0; at < SOURCE_BYTES;) {
        uint64_t r = next_random(&x) % 1500 * 0x2545f4914f6cdd1dul;
        for (unsigned left = 2 + (r >> 60) % (WORD_MAX - 2); left && at < SOURCE_BYTES;
             left--)
            text[at++] =
                (char)('a' + (r = r * 6364136223846793005ul + 1) / (1ul << 59) % 26);
        if (at < SOURCE_BYTES)
            text[at++] = ' ';
    }
    if (pwrite(fd, text, SOURCE_BYTES, 0) != SOURCE_BYTES)
        die("a source file");
}

/* One word more into the tree of symbols. */
static void note_word(struct symbol **root, const char *word, uint32_t length) {
    while (*root) {
        struct symbol *s = *root;
        uint32_t least = s->length < length ? s->length : length;
        int order = memcmp(s->name, word, least);
        if (!order && s->length == length) {
            s->uses++;
            return;
        }
        root = &s->below[order ? order < 0 : s->length < length];
    }
    struct symbol *s = *root = calloc(1, sizeof(*s) + length);
    if (!s)
        die("memory");
    s->length = length;
    s->uses = 1;
    memcpy(s->name, word, length);
}

/* The symbols in order, as the object file has them. */
static void put_symbols(const struct symbol *s, FILE *out) {
    if (!s)
        return;
    put_symbols(s->below[0], out);
    fprintf(out, "%.*s %u\n", (int)s->length, s->name, s->uses);
    put_symbols(s->below[1], out);
}

/* The program that a job runs: standard input is its source, standard output its object file. */
int linux_compile(void) {
    char *text = mmap(NULL, SOURCE_BYTES, PROT_READ, MAP_PRIVATE, 0, 0);
    struct symbol *symbols = NULL;
    if (text == MAP_FAILED)
        return 1;
    for (uint32_t at = 0, begin = 0; at < SOURCE_BYTES; at++)
        if (text[at] == ' ') {
            if (at > begin)
                note_word(&symbols, text + begin, at - begin);
            begin = at + 1;
        }
    put_symbols(symbols, stdout);
    return fflush(stdout) != 0;
}

static int file_in_memory(void) {
    int fd = memfd_create("pn-linux", MFD_CLOEXEC);
    if (fd < 0)
        die("a file in memory");
    return fd;
}

static void start_job(const struct job *job, int source, int object) {
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid)
        return;
    if (dup2(source, 0) == 0 && dup2(object, 1) == 1)
        execl(job->self, job->self, "compile", (char *)NULL);
    _exit(127);
}

/* What a linker reads of an object file. */
static uint64_t link_object(int object) {
    char buf[4096];
    uint64_t sum = 0;
    ssize_t n;
    for (off_t at = 0; (n = pread(object, buf, sizeof(buf), at)) > 0; at += n)
        for (ssize_t i = 0; i < n; i++)
            sum = mix(sum, (uint8_t)buf[i]);
    return sum;
}

uint64_t linux_build(struct job *job) {
    int source[64], *object = malloc(job->n * sizeof(*object)), status;
    unsigned running = 0;
    if (!object)
        die("memory");
    for (unsigned i = 0; i < 64; i++)
        make_source(source[i] = file_in_memory(), i);
    for (uint64_t i = 0; i < job->n; i++)
        object[i] = file_in_memory();
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n || running;) {
        if (i < job->n && running < AT_ONCE) {
            start_job(job, source[i % 64], object[i]);
            i++, running++;
            continue;
        }
        if (wait(&status) < 0 || status) {
            errno = ECHILD;
            die("a job of the build");
        }
        running--;
    }
    for (uint64_t i = 0; i < job->n; i++)
        job->sum = mix(job->sum, link_object(object[i]));
    t = measure_end(t);
    for (uint64_t i = 0; i < job->n; i++)
        close(object[i]);
    for (unsigned i = 0; i < 64; i++)
        close(source[i]);
    free(object);
    return t;
}
