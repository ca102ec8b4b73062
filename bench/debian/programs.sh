# SPDX-License-Identifier: MIT
# The programs of debian.inc, in the guest: set_up_NAME makes what run_NAME, the measured part, needs. $n: how much.
# Their folder is on ext4. Into `same` goes what must be equal in every run.

set_up_sqlite() {
    cat > script.sql << SQL
PRAGMA cache_size = -16384;
CREATE TABLE item(id INTEGER PRIMARY KEY, key INT, name TEXT, price INT);
CREATE TABLE part(item INT, kind INT);
BEGIN;
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < $n)
    INSERT INTO item SELECT x, x * 2654435761 % 1000003, printf('item %08x of %d', x * 40503 % 65536, x), x % 997 FROM c;
INSERT INTO part SELECT key % $n, id % 13 FROM item;
COMMIT;
CREATE INDEX item_key ON item(key);
CREATE INDEX item_name ON item(name);
CREATE INDEX part_item ON part(item);
SELECT count(*), sum(price) FROM item WHERE key BETWEEN 1000 AND 400000;
SELECT kind, count(*), sum(price) FROM part JOIN item ON item.id = part.item GROUP BY kind;
UPDATE item SET price = price + 1 WHERE key % 3 = 0;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name WHERE b.key % 7 = 0;
DELETE FROM item WHERE id % 5 = 0;
SELECT count(*), sum(price), max(name) FROM item;
PRAGMA integrity_check;
SQL
}
run_sqlite() { sqlite3 data.db < script.sql && cp out same; }

set_up_gcc() {
    cp /usr/share/doc/zlib1g-dev/examples/* . && for one in *.gz; do [ ! -f "$one" ] || gunzip "$one"; done
    gcc -O2 -c zran.c -o zran.o # what is read is in memory
}
run_gcc() {
    for i in $(seq "$n"); do
        gcc -O2 -c zran.c -o "$i.o" || return 1
        cmp "$i.o" zran.o || return 1
    done
    md5sum < zran.o > same
}

set_up_kbuild() {
    cat > pn.c << 'C'
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/sched.h>
#include <linux/slab.h>

static void *memory;

static int __init pn_init(void) {
    memory = kzalloc(4096, GFP_KERNEL);
    return memory ? 0 : -ENOMEM;
}
static void __exit pn_exit(void) { kfree(memory); }
module_init(pn_init);
module_exit(pn_exit);
MODULE_LICENSE("Dual MIT/GPL");
C
    echo 'obj-m := pn.o' > Makefile
    set -- /lib/modules/*/build
    build=$1
    [ -e "$build/Makefile" ]
}
run_kbuild() {
    for i in $(seq "$n"); do
        make -C /lib/modules/*/build M="$PWD" clean modules || return 1
    done
    md5sum < pn.o > same
}

set_up_pgbench() {
    mkdir -p /run/postgresql && chown postgres /run/postgresql && pg_ctlcluster 15 main start || return 1
    runuser -u postgres -- pgbench -q -i -s 1 postgres
}
run_pgbench() {
    runuser -u postgres -- pgbench -n -c 1 -t "$n" --random-seed=1 postgres &&
        runuser -u postgres -- psql -At -c 'SELECT sum(abalance), count(*) FROM pgbench_accounts' postgres > same
}

set_up_redis() {
    ip link set lo up
    redis-server --save '' --port 0 --unixsocket /run/redis.sock --daemonize yes --logfile /var/tmp/bench/redis.log
    until [ "$(redis-cli -s /run/redis.sock ping)" = PONG ]; do :; done
}
run_redis() {
    redis-benchmark -s /run/redis.sock -c 10 -n "$n" -r 20000 -t set,get --csv &&
        grep -o '^"[A-Z]*"' out > same
}

set_up_openssl() { dd if=/dev/zero bs=1M count="$n" | openssl enc -aes-128-ctr -K 00 -iv 00 > data; }
run_openssl() {
    openssl dgst -sha256 data > same && openssl enc -aes-256-ctr -K 01 -iv 02 -in data | md5sum >> same
}

set_up_python() {
    cat > bench.py << 'PYTHON'
import collections, json, re, sys

def one(seed):
    x, words = seed, []
    for _ in range(30000):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        words.append("%08x" % (x >> 40))
    count = collections.Counter(w[:3] for w in words)
    index = {w: i for i, w in enumerate(words)}
    text = json.dumps({"count": count.most_common(), "index": index})
    back = json.loads(text)
    found = re.findall(r"[a-f]{3}[0-9]", text)
    order = sorted(back["index"], key=lambda w: w[::-1])
    return len(text), len(found), order[len(order) // 2]

print([one(i) for i in range(int(sys.argv[1]))])
PYTHON
}
run_python() { PYTHONHASHSEED=0 python3 bench.py "$n" && cp out same; }

set_up_java() {
    cat > Bench.java << 'JAVA'
import java.util.*;

public class Bench {
    public static void main(String[] args) {
        long sum = 0;
        for (int round = 0; round < Integer.parseInt(args[0]); round++) {
            Map<String, List<Integer>> all = new HashMap<>();
            for (int i = 0; i < 40000; i++)
                all.computeIfAbsent("key" + i * 7919L % 5003, k -> new ArrayList<>()).add(i);
            for (List<Integer> l : new TreeMap<>(all).values())
                sum = sum * 31 + l.get(l.size() / 2);
        }
        System.out.println(sum);
    }
}
JAVA
    javac -J-XX:+UseSerialGC Bench.java
}
run_java() { java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx64m -cp . Bench "$n" && cp out same; }

set_up_sysbench() { :; }
run_sysbench() {
    sysbench memory --rand-seed=1 --time=0 --memory-block-size=64M --memory-access-mode=rnd --memory-total-size="${n}M" run &&
        grep '^Total operations' out | sed 's/ (.*//' > same
}

set_up_stress() { :; }
run_stress() {
    for one in fork malloc vm pipe switch mmap; do
        [ $one != mmap ] || n=$(((n + 19) / 20)) # one is as much as 4 of vm
        stress-ng --seed 1 --"$one" 1 --"$one-ops" "$n" --mmap-bytes 16M --vm-bytes 16M --malloc-bytes 4M --timeout 0 || return 1
        echo "$one" >> same
    done
}

# Of bench/io, which compares devices: figures, one a line, into `figures`.
set_up_disk() { [ -b /dev/vdb ] && fio --version; }
# KiB of the second disk in a second, read in order past the page cache; and reads of 4K in a second, 32 at a time, for $n seconds each.
run_disk() {
    of() { fio --name=r --filename=/dev/vdb --readonly --direct=1 --output-format=terse --terse-version=3 "$@" | cut -d ';' -f "$field"; }
    field=7 && echo "sequential $(of --rw=read --bs=1M --ioengine=libaio --iodepth=4)" > figures
    field=8 && echo "random $(of --rw=randread --bs=4k --ioengine=libaio --iodepth=32 --runtime="$n" --time_based)" >> figures
    cp figures same
}

set_up_net() { ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2; }
# Bits in a second to a server at port $n of the host's, and from it.
run_net() {
    of() { iperf3 -c 10.0.2.2 -p "$n" -t 5 -J "$@" | sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9]*\).*/\1/p'; }
    echo "send $(of)" > figures && echo "receive $(of -R)" >> figures && cp figures same
}
