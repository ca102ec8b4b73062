/* SPDX-License-Identifier: MIT */
/*
 * What a VMM costs before its guest does anything: the time from exec to the guest's
 * first instruction, and the memory that the process holds then beyond the guest's.
 *
 * The guest's first instructions write one byte to COM1 and spin. The clock starts in the
 * child, right before exec, and stops when the byte arrives here; then the child is
 * stopped and its resident mappings are added up, but for those as large as guest memory.
 * penumbra enters the bytes as a flat real-mode image, QEMU as the firmware of a microvm:
 * each in the shortest way it has; the least VMM (least.c) is this program once more. All
 * run in turn, so that a busy host is busy for all.
 *
 * With a kernel: the most memory beyond the guest's in a whole boot under the software CPU, looked at
 * every few milliseconds. There pages that are mapped twice, as translated code is, count once.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/harness/rank.h"
#include "bench/startup/least.h"

#define GUEST_MIB   128u
#define REPEAT_MAX  1000u
#define WAIT_MS     20000
#define ROM_SIZE    65536u
#define ARGS_MAX    40
#define TARGET_MS   20.0
#define TARGET_MIB  8.0
#define GUEST_BYTE  'P'
#define BOOT_MIB    256u
#define BOOT_TARGET 48.0
#define LOOK_NS     10000000
#define RESET_ENTRY 0xfff0u
#define ROM_CODE    0xffe0u

static const uint8_t first_code[] = {
    0xba, 0xf8,       0x03, /* mov dx, 0x3f8 */
    0xb0, GUEST_BYTE,       /* mov al, 'P' */
    0xee,                   /* out dx, al */
    0xeb, 0xfe,             /* jmp to itself: the process stays to be measured */
};

#define LEAST "--least-vmm"

struct peer {
    const char *name;
    const char *args[ARGS_MAX]; /* args[0]: the program */
    bool target;                /* the target is this one's */
    char absent[160];           /* why it does not run here; "" it does */
    unsigned runs;
    double ms[REPEAT_MAX], mib[REPEAT_MAX];
};

static char flat_file[64], rom_file[64];
static const char *penumbra = "penumbra";
static const char *qemu = "qemu-system-x86_64";

#define PENUMBRA_ARGS(mmu)                                                               \
    {                                                                                    \
        NULL, "run", "--mmu", mmu, "-m", "128M", "--format", "flat", "--flat-bits",      \
            "16", "--flat-addr", "0x7c00", "--kernel", flat_file                         \
    }
#define QEMU_ARGS(accel, cpu)                                                            \
    {                                                                                    \
        NULL, "-M", "microvm,isa-serial=on", "-accel", accel, "-cpu", cpu, "-m", "128M", \
            "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot", "-display",     \
            "none", "-monitor", "none", "-serial", "stdio", "-bios", rom_file            \
    }

static struct peer peers[] = {
    {.name = "penumbra --mmu kvm", .args = PENUMBRA_ARGS("kvm"), .target = true},
    {.name = "penumbra --mmu shadow", .args = PENUMBRA_ARGS("shadow")},
    {.name = "least VMM, kvm", .args = {NULL, LEAST}},
    {.name = "qemu microvm, kvm", .args = QEMU_ARGS("kvm", "host")},
    {.name = "qemu microvm, tcg", .args = QEMU_ARGS("tcg", "max")},
};
#define PEERS (sizeof(peers) / sizeof(peers[0]))

/* ---- The guest ---- */

static int write_file(char *path, const void *data, size_t size) {
    int fd = mkstemp(path);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, data, size);
    close(fd);
    return n == (ssize_t)size ? 0 : -EIO;
}

static int make_images(void) {
    static uint8_t rom[ROM_SIZE];
    memcpy(rom + ROM_CODE, first_code, sizeof(first_code));
    rom[RESET_ENTRY] = 0xeb; /* jmp short */
    rom[RESET_ENTRY + 1] = (uint8_t)(ROM_CODE - (RESET_ENTRY + 2));
    strcpy(flat_file, "/tmp/penumbra-startup-XXXXXX");
    strcpy(rom_file, "/tmp/penumbra-startup-XXXXXX");
    int rc = write_file(flat_file, first_code, sizeof(first_code));
    return rc ? rc : write_file(rom_file, rom, sizeof(rom));
}

/* ---- One run ---- */

/* KiB of the mappings that are not guest memory; key: "Rss" or "Pss" of them. */
static long beyond(pid_t pid, const char *key, unsigned guest_mib) {
    char path[64], line[512], format[32];
    long size = 0, kib, sum = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    snprintf(format, sizeof(format), "%s: %%ld", key);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Size: %ld", &size) == 1)
            continue;
        if (sscanf(line, format, &kib) == 1 && size < (long)guest_mib * 1024)
            sum += kib;
    }
    if (f)
        fclose(f);
    return sum;
}

static pid_t start(const struct peer *p, int out, int err, uint64_t *exec_ns) {
    pid_t pid = fork();
    if (pid)
        return pid;
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out, 1);
    dup2(err, 2);
    *exec_ns = host_ns();
    execvp(p->args[0], (char *const *)p->args);
    dprintf(2, "%s: %s\n", p->args[0], strerror(errno));
    _exit(127);
}

/* The last line on stderr says why nothing came. */
static void note_absent(struct peer *p, int err) {
    char buf[4096];
    ssize_t n = pread(err, buf, sizeof(buf) - 1, 0);
    buf[n > 0 ? n : 0] = 0;
    while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == '\r'))
        buf[--n] = 0;
    char *line = strrchr(buf, '\n');
    line = line ? line + 1 : buf;
    snprintf(p->absent, sizeof(p->absent), "%.150s",
             *line ? line : "no byte came from the guest");
}

static int run_once(struct peer *p, uint64_t *exec_ns) {
    int out[2], err = memfd_create("stderr", 0);
    if (err < 0 || pipe(out))
        return -errno;
    pid_t pid = start(p, out[1], err, exec_ns);
    close(out[1]);
    struct pollfd wait = {.fd = out[0], .events = POLLIN};
    char byte = 0;
    bool came = poll(&wait, 1, WAIT_MS) == 1 && read(out[0], &byte, 1) == 1;
    uint64_t end = host_ns();
    came = came && byte == GUEST_BYTE;
    if (came) {
        kill(pid, SIGSTOP);
        waitpid(pid, NULL, WUNTRACED);
        p->ms[p->runs] = (double)(end - *exec_ns) / 1e6;
        p->mib[p->runs++] = (double)beyond(pid, "Rss", GUEST_MIB) / 1024;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (!came)
        note_absent(p, err);
    close(out[0]);
    close(err);
    return 0;
}

/* ---- A boot ---- */

static struct boot {
    const char *mmu;
    double mib; /* the most; 0: it did not run to its end */
} boots[] = {{"shadow", 0}, {"tdp", 0}};
#define BOOTS (sizeof(boots) / sizeof(boots[0]))

static const char *kernel, *initrd; /* NULL: no boot */

static void boot_once(struct boot *b) {
    char memory[16];
    snprintf(memory, sizeof(memory), "%uM", BOOT_MIB);
    const struct peer p = {.args = {penumbra, "run", "--quiet", "--mmu", b->mmu, "-m",
                                    memory, "--kernel", kernel, "--initrd", initrd,
                                    "--append", "console=ttyS0 panic=-1 pn.script"}};
    const struct timespec look = {0, LOOK_NS};
    int null = open("/dev/null", O_WRONLY), status = 0;
    uint64_t unused;
    double most = 0;
    pid_t pid = start(&p, null, 2, &unused);
    close(null);
    while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) {
        double mib = (double)beyond(pid, "Pss", BOOT_MIB) / 1024;
        most = mib > most ? mib : most;
        nanosleep(&look, NULL);
    }
    b->mib = pid > 0 && status == 0 ? most : 0;
}

/* Return: whether the target was missed. */
static bool print_boots(void) {
    bool missed = false;
    printf("\nThe most memory beyond the guest's %u MiB in a boot, pages that are mapped "
           "twice once;\nat most %.0f MiB:\n\n",
           BOOT_MIB, BOOT_TARGET);
    for (size_t i = 0; i < BOOTS; i++) {
        bool over = boots[i].mib == 0 || boots[i].mib > BOOT_TARGET;
        missed |= over;
        if (boots[i].mib > 0)
            printf("penumbra --mmu %-9s %10s %10s %10.2f%s\n", boots[i].mmu, "", "",
                   boots[i].mib, over ? "  above the target" : "");
        else
            printf("penumbra --mmu %-9s the boot failed\n", boots[i].mmu);
    }
    return missed;
}

static json_t *boots_json(void) {
    json_t *a = json_array();
    for (size_t i = 0; kernel && i < BOOTS; i++)
        json_array_append_new(a, json_pack("{s:s, s:f, s:i, s:f}", "mmu", boots[i].mmu,
                                           "mib", boots[i].mib, "guest_mib",
                                           (int)BOOT_MIB, "target_mib", BOOT_TARGET));
    return a;
}

/* ---- The report ---- */

static double median(const double *v, unsigned n) {
    static double sorted[REPEAT_MAX];
    memcpy(sorted, v, n * sizeof(*v));
    return rank_median(sorted, n);
}

static double least(const double *v, unsigned n) {
    double min = v[0];
    for (unsigned i = 1; i < n; i++)
        min = v[i] < min ? v[i] : min;
    return min;
}

/* Return: whether a target was missed. */
static bool print(void) {
    bool missed = false;
    printf("From exec to the guest's first instruction, and resident memory beyond the\n"
           "guest's %u MiB then; 1 vCPU, medians, and the quickest run:\n\n"
           "%-24s %10s %10s %10s %6s\n",
           GUEST_MIB, "", "ms", "least ms", "MiB", "runs");
    for (size_t i = 0; i < PEERS; i++) {
        struct peer *p = &peers[i];
        if (!p->runs) {
            printf("%-24s not here: %s\n", p->name, p->absent);
            continue;
        }
        double ms = median(p->ms, p->runs), mib = median(p->mib, p->runs);
        printf("%-24s %10.2f %10.2f %10.2f %6u", p->name, ms, least(p->ms, p->runs), mib,
               p->runs);
        if (p->target && (ms > TARGET_MS || mib > TARGET_MIB)) {
            missed = true;
            printf("  above the target");
        }
        putchar('\n');
    }
    printf("\nleast VMM: kvmtool's model (kvmtool itself is in no Debian package): the "
           "system calls\nthat it makes before its guest runs, and nothing else.\n");
    printf("\nTarget of penumbra --mmu kvm: at most %.0f ms and %.0f MiB.\n", TARGET_MS,
           TARGET_MIB);
    return missed;
}

static json_t *list(const double *v, unsigned n) {
    json_t *a = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, json_real(v[i]));
    return a;
}

static json_t *host_json(void) {
    char command[512];
    snprintf(command, sizeof(command), "'%s' host --json", penumbra);
    FILE *f = popen(command, "r");
    json_t *j = f ? json_loadf(f, 0, NULL) : NULL;
    if (f)
        pclose(f);
    return j ? j : json_null();
}

static int write_json(const char *path) {
    json_t *all = json_object();
    for (size_t i = 0; i < PEERS; i++) {
        struct peer *p = &peers[i];
        json_t *one =
            p->runs ? json_pack("{s:f, s:f, s:o, s:o}", "ms", median(p->ms, p->runs),
                                "mib", median(p->mib, p->runs), "all_ms",
                                list(p->ms, p->runs), "all_mib", list(p->mib, p->runs))
                    : json_pack("{s:s}", "absent", p->absent);
        json_object_set_new(all, p->name, one);
    }
    json_t *j = json_pack("{s:s, s:o, s:i, s:{s:f, s:f}, s:o, s:o}", "schema",
                          "penumbra-startup-1", "host", host_json(), "guest_mib",
                          (int)GUEST_MIB, "target", "ms", TARGET_MS, "mib", TARGET_MIB,
                          "peers", all, "boots", boots_json());
    int rc = json_dump_file(j, path, JSON_INDENT(2));
    json_decref(j);
    if (rc)
        fprintf(stderr, "startup: cannot write %s\n", path);
    return rc;
}

static int usage(void) {
    fprintf(
        stderr,
        "usage: startup [--penumbra PROGRAM] [--qemu PROGRAM] [--repeat N] [--json F] "
        "[--kernel F --initrd F] [--check]\n  --check: exit code 1 when a target is "
        "missed\n");
    return 2;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"penumbra", 1, 0, 'p'}, {"qemu", 1, 0, 'q'},
        {"repeat", 1, 0, 'r'},   {"json", 1, 0, 'j'},
        {"check", 0, 0, 'c'},    {"kernel", 1, 0, 'k'},
        {"initrd", 1, 0, 'i'},   {0}};
    if (argc == 2 && !strcmp(argv[1], LEAST))
        return least_vmm(first_code, sizeof(first_code), GUEST_MIB << 20);
    unsigned long repeat = 11;
    const char *json = NULL;
    bool check = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'p')
            penumbra = optarg;
        else if (c == 'q')
            qemu = optarg;
        else if (c == 'r')
            repeat = strtoul(optarg, NULL, 10);
        else if (c == 'j')
            json = optarg;
        else if (c == 'c')
            check = true;
        else if (c == 'k')
            kernel = optarg;
        else if (c == 'i')
            initrd = optarg;
        else
            return usage();
    }
    if (optind < argc || !repeat || repeat > REPEAT_MAX || !kernel != !initrd)
        return usage();
    uint64_t *exec_ns = mmap(NULL, sizeof(*exec_ns), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (exec_ns == MAP_FAILED || make_images()) {
        fprintf(stderr, "startup: %s\n", strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < PEERS; i++)
        peers[i].args[0] = !strncmp(peers[i].name, "qemu", 4)    ? qemu
                           : !strncmp(peers[i].name, "least", 5) ? argv[0]
                                                                 : penumbra;
    for (unsigned long r = 0; r < repeat; r++)
        for (size_t i = 0; i < PEERS; i++)
            if (!*peers[i].absent)
                run_once(&peers[i], exec_ns);
    unlink(flat_file);
    unlink(rom_file);
    for (size_t i = 0; kernel && i < BOOTS; i++)
        boot_once(&boots[i]);
    bool missed = print();
    if (kernel)
        missed |= print_boots();
    int rc = json ? write_json(json) : 0;
    return rc || (check && (missed || !peers[0].runs)) ? 1 : 0;
}
