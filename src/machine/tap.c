/* SPDX-License-Identifier: MIT */
/* A tap interface of this host's: see tap.h. */
#include "machine/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICE "/dev/net/tun"

_Static_assert(NET_TAP_MAX == IFNAMSIZ, "an interface's name");

/* Return: 0 or -errno. */
static int mtu_of(const char *name, unsigned *mtu) {
    struct ifreq r = {.ifr_mtu = 0};
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0)
        return -errno;
    strcpy(r.ifr_name, name);
    int rc = ioctl(any, SIOCGIFMTU, &r) ? -errno : 0;
    close(any);
    *mtu = (unsigned)r.ifr_mtu;
    return rc;
}

int tap_open(const char *name, int *fd, unsigned *mtu, struct err *e) {
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    *fd = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0)
        return err_sys(e, -errno, DEVICE);
    strcpy(r.ifr_name, name);
    int rc = ioctl(*fd, TUNSETIFF, &r) ? -errno : mtu_of(r.ifr_name, mtu);
    if (rc == 0)
        return 0;
    close(*fd);
    *fd = -1;
    if (rc == -EPERM)
        return err_set(
            e, rc,
            "tap=%s: there is none that you own: ip tuntap add %s mode tap user "
            "$USER",
            name, name);
    return err_sys(e, rc, "tap=%s", name);
}
