# SPDX-License-Identifier: MIT
# Sourced, with fail() of tests/lib.sh: what a Linux guest of two vCPUs says that has had sleep.input.
# Its first lines are empty: what comes before Linux opens its serial port goes with the port's FIFO.

# slept FILE: it slept, woke up, and found its file again. (sleep.input's stty waits until all has been
# printed: a power-off does not.)
slept() {
    local line
    for line in 'ACPI: PM: Preparing to enter system sleep state S3$' 'ACPI: PM: Waking up from system sleep state S3$' \
        '^slept s2idle \[deep\] 0$' '^numbers 1800030000 of 2$'; do
        grep -q -- "$line" < <(tr -d '\r' < "$1") || fail "not on the console: $line"
    done
}
