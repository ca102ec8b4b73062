/* SPDX-License-Identifier: MIT */
/* Descriptors that whoever started this process left open. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/sandbox.h"

unsigned sandbox_fds_inherited(int *fd, unsigned most) {
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;
    for (const struct dirent *one; d && n < most && (one = readdir(d));) {
        int number = atoi(one->d_name); /* "." and ".." are 0 */
        if (number > STDERR_FILENO && number != dirfd(d))
            fd[n++] = number;
    }
    if (d)
        closedir(d);
    return n;
}
