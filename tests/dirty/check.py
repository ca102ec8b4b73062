#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is the memory of a dirty guest (main.c) as its rounds left it? What a VMM saved, put together and
restored, is given here as a plain image of guest physical memory:

    check.py ROUND MEMORY REGION...

ROUND: the last round that the guest had said. MEMORY: a file whose byte A is guest physical address A
(with BASE=FILE instead: the file begins at BASE; several may be given, separated by commas).
REGION: what the guest said, "BASE-END" in hexadecimal. A page that misses a write has an older
round; one at a wrong offset has another page's address. Exit code: 0 right; 1 not; 2 usage.
"""
import struct
import sys

MAGIC = 0x796472616E746565
PAGE, BLOCK, STEP = 4096, 512, 37


def last_round(n, p, upto):
    """The last round of 1..upto in which page p of n is written (plan.h); 0: none."""
    if p in (0, n - 1):
        return upto
    rounds = [p] if 1 <= p <= upto else []
    if p < n - n // 4:
        rounds.append(upto - (upto - p) % STEP)
        rounds.append(p // BLOCK)
    return max((r for r in rounds if 1 <= r <= upto), default=0)


def judge(word, address, want):
    """What is wrong with a page of which a write in round `want` was the last, or None."""
    if not want:  # firmware may have left something there
        return f"a page of the guest's, and it wrote none there: page {word[1]:x}" if word[0] == MAGIC else None
    if word[0] != MAGIC or word[3] != sum(word[:3]) % 2**64:
        return "missed: nothing that the guest wrote is there"
    if word[1] != address:
        return f"at a wrong offset: it is page {word[1]:x}"
    if word[2] != want:
        return f"missed: of round {word[2]}, and not {want}"
    return None


def main():
    try:
        upto = int(sys.argv[1])
        files = [part.rpartition("=") for part in sys.argv[2].split(",")]
        files = sorted((int(base, 16) if base else 0, open(name, "rb")) for base, _, name in files)
        regions = [tuple(int(x, 16) for x in r.split("-")) for r in sys.argv[3:]]
        assert upto > 0 and regions and all(len(r) == 2 for r in regions)
    except (IndexError, ValueError, AssertionError, OSError) as e:
        print(__doc__, e, file=sys.stderr)
        return 2
    checked = wrong = 0
    for base, end in regions:
        begin, file = [f for f in files if f[0] <= base][-1]
        n = (end - base) // PAGE
        file.seek(base - begin)
        for p in range(n):
            page = file.read(PAGE)
            if len(page) < PAGE:
                print(f"the file ends before {base + p * PAGE:x}")
                return 1
            why = judge(struct.unpack_from("<4Q", page), base + p * PAGE, last_round(n, p, upto))
            checked += 1
            if why:
                wrong += 1
                if wrong <= 20:
                    print(f"page {base + p * PAGE:x}: {why}")
    print(f"{checked} pages, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
