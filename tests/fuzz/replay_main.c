/* SPDX-License-Identifier: MIT */
/*
 * A main() for fuzz targets without libFuzzer: replays files and folders, then runs
 * random inputs. The same arguments give the same inputs in every run.
 *
 *   fuzz_x [--random N] [--seed S] [--max-len L] [FILE|DIR]...
 *
 * Each input lies at the end of its own heap block, so that sanitizers see a read past
 * it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t rnd(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) < 0) {
        perror(path);
        return -1;
    }
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size) {
        perror(path);
        exit(1);
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

static int replay(const char *path, unsigned *files) {
    struct stat st;
    if (stat(path, &st) < 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        ++*files;
        return replay_file(path);
    }
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), rc = n < 0 ? -1 : 0;
    for (int i = 0; i < n; i++) {
        char child[4096];
        snprintf(child, sizeof(child), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && replay(child, files) < 0)
            rc = -1;
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return rc;
}

/* Bytes of three kinds: uniform, few bits set, and runs of one value, since tables and
 * headers are mostly zeros and small numbers. */
static void fill(uint8_t *data, size_t size, uint64_t *seed) {
    unsigned kind = rnd(seed) % 3;
    uint8_t value = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t r = rnd(seed);
        if (kind == 0)
            value = (uint8_t)(r >> 32);
        else if (kind == 1)
            value = r >> 40 & 3 ? 0 : (uint8_t)(1u << (r >> 32 & 7));
        else if (!(r >> 40 & 15))
            value = (uint8_t)(r >> 32);
        data[i] = value;
    }
}

static void run_random(unsigned long n, uint64_t seed, size_t max_len) {
    for (unsigned long i = 0; i < n; i++) {
        size_t size = rnd(&seed) % (max_len + 1);
        if (rnd(&seed) & 1)
            size >>= rnd(&seed) % 8;
        uint8_t *data = malloc(size ? size : 1);
        if (!data)
            exit(1);
        fill(data, size, &seed);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
}

int main(int argc, char **argv) {
    unsigned long random = 0;
    uint64_t seed = 1;
    size_t max_len = 4096;
    unsigned files = 0;
    int rc = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--random") && i + 1 < argc)
            random = strtoul(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0) | 1;
        else if (!strcmp(argv[i], "--max-len") && i + 1 < argc)
            max_len = strtoul(argv[++i], NULL, 0);
        else if (replay(argv[i], &files) < 0)
            rc = 1;
    }
    run_random(random, seed, max_len);
    printf("%s: %u files, %lu random inputs\n", argv[0], files, random);
    return rc;
}
