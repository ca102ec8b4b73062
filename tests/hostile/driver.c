/* SPDX-License-Identifier: MIT */
/*
 * A hostile driver of virtio's devices, as a program of a Linux guest that drives none of them: registers in any order,
 * rings full of nonsense, chains that loop, indices that jump, addresses where there is no memory, resets at any moment;
 * a BAR that moves away while queues are notified, messages (MSI, MSI-X) that are masked and changed as they come.
 * What the device may store in is memory of this program alone, so whoever finds other memory changed has found a bug.
 *
 *   driver SEED ROUNDS    on every virtio device that there is
 *
 * Offsets are those of VIRTIO 1.2, "Virtio Over PCI Bus", and of src/dev/virtio_pci.c for the areas in the BAR.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE     (2u << 20)
#define DMA      (1u << 20) /* from here on a device may store; up to 64 KiB at once */
#define QUEUES   8u
#define AREA     0x1000u
#define NOTIFY   0x3000u
#define STATUS   20u
#define TABLE    0x4000u
#define COMMAND  4
#define BAR      0x10
#define CAPS     0x34
#define CAP_MSI  5u
#define CAP_MSIX 0x11u
#define ECAM     0xe0000000u
#define VECTOR   0x6fu /* which Linux gives nobody here: it says so, and goes on */

static uint64_t state, gpa;
static uint8_t *memory; /* HUGE bytes in one piece, at gpa; rings below DMA */
static volatile uint8_t *bar;
static char folder[300];
static int balloon; /* pages that it is given are lost */
static unsigned answered;

static uint64_t any(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

static unsigned below(unsigned n) {
    return (unsigned)((any() >> 33) % n);
}

static void die(const char *what) {
    perror(what);
    printf("GUEST-FAIL: %s\n", what);
    exit(1);
}

static void w8(unsigned at, uint8_t v) {
    *(bar + at) = v;
}
static void w16(unsigned at, uint16_t v) {
    *(volatile uint16_t *)(bar + at) = v;
}
static void w32(unsigned at, uint32_t v) {
    *(volatile uint32_t *)(bar + at) = v;
}

/* Where nothing of ours is: no memory, an MMIO window, the end of the addresses. */
static uint64_t nowhere(void) {
    static const uint64_t at[] = {1ull << 40,   0xfee00000, 0xfec00000,
                                  ~0ull - 4095, ~0ull - 1,  1ull << 63};
    unsigned i = below(sizeof(at) / sizeof(at[0]));
    return at[i] + (i < 3 ? below(4096) : 0);
}

static uint64_t ring(unsigned queue, unsigned part) {
    return (queue * 3 + part) * 0x4000ull; /* three for each queue, below DMA */
}

static void put(uint64_t at, const void *p, size_t size) {
    memcpy(memory + at % (DMA - size), p, size);
}

/* One descriptor. What may be written is ours, whatever its length says. */
static void descriptor(uint64_t at) {
    static const uint32_t sizes[] = {0,   1,    4,    10,    12,       16,
                                     512, 4096, 8192, 65536, 1u << 31, 0xffffffff};
    struct {
        uint64_t gpa;
        uint32_t size;
        uint16_t one, two;
    } d = {
        .size = sizes[below(12)], .one = (uint16_t)below(8), .two = (uint16_t)below(24)};
    if (below(8) == 0)
        d.two = (uint16_t)any();
    if (below(2) ==
        0) /* a packed ring has them the other way round, with two bits more */
        d.one |= (uint16_t)(below(4) * 0x4080);
    d.gpa = below(8) == 0 ? nowhere() : gpa + DMA + below(DMA - 65536);
    if (d.size > 65536 && d.gpa - gpa < HUGE)
        d.gpa = nowhere();
    if (below(6) == 0) /* an indirect table, which lies where rings are */
        d.gpa = gpa + below(48) * 0x4000, d.size = 16 * below(20), d.one = 4, d.two |= 4;
    put(at, &d, sizeof(d));
}

static void fill(unsigned queue) {
    uint16_t n, index = (uint16_t)(below(4) ? below(4) : any());
    for (unsigned i = 0; i < 24; i++)
        descriptor(ring(queue, 0) + i * 16);
    for (unsigned i = 0; i < 4; i++) { /* tables for the indirect ones */
        uint64_t table = below(48) * 0x4000ull;
        for (unsigned k = 0; k < 20; k++)
            descriptor(table + k * 16);
    }
    for (unsigned i = 0; i < 16; i++) {
        n = (uint16_t)(below(10) ? below(24) : any());
        put(ring(queue, 1) + 4 + i * 2, &n, 2);
    }
    put(ring(queue, 1) + 2, &index, 2);
    for (unsigned i = 0; i < 64; i++) { /* a disk's requests; numbers of no pages */
        uint64_t head[2] = {below(3) ? below(16) : any(), below(9000)};
        if (balloon)
            head[0] = head[1] = any() | 0x8000000080000000ull;
        memcpy(memory + DMA + below(DMA / 16 - 1) * 16, head, sizeof(head));
    }
}

/* Has a split ring come to another number of answers? */
static void count(unsigned queue) {
    static uint16_t seen[QUEUES];
    uint16_t now;
    memcpy(&now, memory + ring(queue, 2) + 2, 2);
    answered += now != seen[queue];
    seen[queue] = now;
}

static void begin(void) {
    uint32_t low = (uint32_t)any(), high = (uint32_t)any() & 6;
    w8(STATUS, 0);
    w8(STATUS, 3);
    if (below(4)) { /* all that it offers, but packed rings by turns */
        w32(0, 0);
        low = *(volatile uint32_t *)(bar + 4);
        w32(0, 1);
        high = *(volatile uint32_t *)(bar + 4) & ~(below(2) << 2);
    }
    w32(8, 0);
    w32(12, low);
    w32(8, 1);
    w32(12, high | (below(10) != 0));
    w8(STATUS, 11);
    for (unsigned q = 0; q < QUEUES; q++) {
        w16(22, (uint16_t)q);
        w16(24, (uint16_t)(below(8) ? 1u << below(8) : any()));
        for (unsigned part = 0; part < 3; part++) {
            uint64_t at = below(40) ? gpa + ring(q, part) : nowhere();
            w32(32 + part * 8, (uint32_t)at);
            w32(36 + part * 8, (uint32_t)(at >> 32));
        }
        w16(28, 1);
    }
    w8(STATUS, 15);
}

/* The device's registers but not its table of vectors; nothing that moves a queue's place. */
static void any_register(void) {
    static const unsigned common[] = {0, 4, 8, 16, 18, STATUS, 21, 22, 24, 26, 28, 30};
    unsigned area = below(4);
    unsigned at = area ? area * AREA + below(64) : common[below(12)];
    if (below(3) == 0)
        (void)*(bar + at);
    else if (area == 3)
        w16(NOTIFY + 4 * below(QUEUES), (uint16_t)any());
    else
        w8(at, (uint8_t)any());
}

/* Configuration space of the device, which stays open. */
static int space = -1;

static void config(unsigned at, uint32_t value, unsigned size) {
    if (pwrite(space, &value, size, (off_t)at) != (ssize_t)size)
        die(folder);
}

static uint32_t config_read(unsigned at, unsigned size) {
    uint32_t value = 0;
    if (pread(space, &value, size, (off_t)at) != (ssize_t)size)
        die(folder);
    return value;
}

static unsigned capability(unsigned id) {
    unsigned at = config_read(CAPS, 1);
    while (at && config_read(at, 1) != id)
        at = config_read(at + 1, 1);
    return at;
}

/* Away from where it is mapped here, onto something else, or without its memory space; queues are
 * notified meanwhile. Then back. */
static void move(void) {
    uint32_t was = config_read(BAR, 4);
    if (below(3) == 0)
        config(COMMAND, 0x404, 2);
    else
        config(BAR, below(2) ? 0xd0000000u + (below(256) << 20) : ECAM, 4);
    for (unsigned i = 0; i < 4; i++)
        w16(NOTIFY + 4 * below(QUEUES), (uint16_t)any());
    config(BAR, was, 4);
    config(COMMAND, 0x406, 2);
}

/* Messages in either form, to this vCPU or another, masked or not, on or off. */
static void messages(void) {
    unsigned msi = capability(CAP_MSI), msix = capability(CAP_MSIX), n = below(9);
    uint32_t address = 0xfee00000u | below(3) << 12;
    switch (below(5)) {
    case 0:
        config(msi + 4, address, 4);
        config(msi + 12, VECTOR, 2);
        config(msi + 16, below(2), 4);
        config(msi + 2, below(2), 2);
        break;
    case 1:
        config(msi + 16, below(2), 4);
        break;
    case 2:
        config(msix + 2, below(4) << 14, 2);
        break;
    default:
        w32(TABLE + n * 16, address);
        w32(TABLE + n * 16 + 8, VECTOR);
        w32(TABLE + n * 16 + 12, below(2));
        w16(22, (uint16_t)below(QUEUES));
        w16(26, (uint16_t)below(9));
    }
}

static void reset(void) {
    char path[320];
    snprintf(path, sizeof(path), "%s/reset", folder);
    int fd = open(path, O_WRONLY);
    if (fd >= 0 && write(fd, "1", 1) != 1)
        die(path);
    close(fd);
    config(COMMAND, 0x406, 2);
}

static void attack(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        unsigned what = below(16);
        if (i % 64 == 0 || what == 0)
            begin();
        else if (what == 1)
            w8(STATUS, 0);
        else if (what < 6)
            any_register();
        else if (what < 8)
            messages();
        else if (what == 8)
            move();
        unsigned queue = below(below(2) ? 2 : QUEUES);
        count(queue);
        fill(queue);
        w16(NOTIFY + 4 * queue, (uint16_t)queue);
        if (i % 256 == 255) /* function-level */
            reset();
    }
    w8(STATUS, 0);
}

/* The BAR that has 0x8000 bytes. */
static int map(void) {
    char path[320];
    snprintf(path, sizeof(path), "%s/enable", folder);
    FILE *f = fopen(path, "w");
    if (!f || fputs("1", f) < 0 || fclose(f))
        die(path);
    snprintf(path, sizeof(path), "%s/config", folder);
    if (space >= 0)
        close(space);
    if ((space = open(path, O_RDWR)) < 0)
        die(path);
    config(COMMAND, 0x406, 2); /* memory, bus master, no INTx: nobody would hear it */
    snprintf(path, sizeof(path), "%s/resource", folder);
    if (!(f = fopen(path, "r")))
        die(path);
    unsigned long long first, last, flags;
    for (int i = 0; i < 6 && fscanf(f, "%llx %llx %llx", &first, &last, &flags) == 3;
         i++) {
        if (last - first != 0x7fff)
            continue;
        fclose(f);
        snprintf(path, sizeof(path), "%s/resource%d", folder, i);
        int fd = open(path, O_RDWR);
        bar = mmap(NULL, 0x8000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fd < 0 || bar == MAP_FAILED)
            die(path);
        close(fd);
        return 1;
    }
    fclose(f);
    return 0;
}

static void take_memory(void) {
    uint64_t entry;
    memory = mmap(NULL, HUGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        die("huge page");
    memset(memory, 0xff, HUGE);
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (fd < 0 || pread(fd, &entry, 8, (off_t)((uintptr_t)memory / 4096 * 8)) != 8)
        die("pagemap");
    close(fd);
    gpa = (entry & ((1ull << 55) - 1)) * 4096;
}

int main(int argc, char **argv) {
    static const char root[] = "/sys/bus/pci/devices";
    unsigned devices = 0;
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], NULL, 0) * 2 + 1;
    take_memory();
    DIR *d = opendir(root);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[320], vendor[16] = "";
        if (e->d_name[0] == '.')
            continue;
        snprintf(folder, sizeof(folder), "%s/%.40s", root, e->d_name);
        snprintf(path, sizeof(path), "%s/vendor", folder);
        FILE *f = fopen(path, "r");
        if (!f || !fgets(vendor, sizeof(vendor), f))
            die(path);
        fclose(f);
        if (strncmp(vendor, "0x1af4", 6) != 0 || !map())
            continue;
        snprintf(path, sizeof(path), "%s/device", folder);
        if (!(f = fopen(path, "r")) || !fgets(vendor, sizeof(vendor), f))
            die(path);
        fclose(f);
        balloon = strncmp(vendor, "0x1045", 6) == 0;
        attack((unsigned)atoi(argv[2]));
        munmap((void *)(uintptr_t)bar, 0x8000);
        devices++;
    }
    printf("ATTACKED %u ANSWERED %u\n", devices, answered);
    return 0;
}
