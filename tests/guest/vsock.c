/* SPDX-License-Identifier: MIT */
/*
 * What devices.sh's guest runs for its vsock: takes a connection at port 1000 and sends back what comes
 * until its end; then connects to port 2000 of the host, sends numbers, and reads a line.
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int send_all(int fd, const char *p, size_t size) {
    for (ssize_t n; size; p += n, size -= (size_t)n)
        if ((n = write(fd, p, size)) <= 0)
            return fail("write");
    return 0;
}

static int serve(void) {
    const struct sockaddr_vm at = {
        .svm_family = AF_VSOCK, .svm_port = 1000, .svm_cid = VMADDR_CID_ANY};
    static char buf[60000];
    int door = socket(AF_VSOCK, SOCK_STREAM, 0), fd;
    if (door < 0 || bind(door, (const void *)&at, sizeof(at)) || listen(door, 1))
        return fail("listen");
    puts("GUEST-LISTENS");
    fflush(stdout);
    if ((fd = accept(door, NULL, NULL)) < 0)
        return fail("accept");
    ssize_t n;
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        if (send_all(fd, buf, (size_t)n))
            return 1;
        if (memchr(buf, '.', (size_t)n))
            break;
    }
    close(fd);
    close(door);
    return n < 0 ? fail("read") : 0;
}

static int ask(unsigned port) {
    const struct sockaddr_vm at = {
        .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const void *)&at, sizeof(at)))
        return fail("connect");
    char line[32];
    for (unsigned i = 0; i < 100000; i++)
        if (send_all(fd, line, (size_t)snprintf(line, sizeof(line), "%u\n", i)))
            return 1;
    ssize_t n = read(fd, line, sizeof(line));
    if (n != 5 || memcmp(line, "done\n", 5) != 0)
        return fail("no answer");
    close(fd);
    return 0;
}

int main(void) {
    if (serve() || ask(2000))
        return 1;
    if (!ask(2001)) { /* where nobody listens */
        puts("connected to nobody");
        return 1;
    }
    return 0;
}
