#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The jobs of tests/guest/jobs.guest for a Linux guest, and what they have to come to, by the same
# programs on this host: its sqlite3, and the compiler proper of its gcc.
#
#   jobs_image.sh INITRD N OUT    OUT.gz: INITRD with the jobs; OUT.want: their results at pn.jobs=N
# Exit: 0, 1, 77 when a program is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
initrd=$1 n=$2 out=$3
cc1=$(gcc -print-prog-name=cc1)
[ -x "$cc1" ] && command -v sqlite3 cpio > /dev/null || { echo "jobs: needs gcc, sqlite3 and cpio"; exit 77; }
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,jobs}
cp "$here/jobs.guest" "$tree/script.sh"
cp "$(command -v sqlite3)" "$tree/bin/"
cp "$cc1" "$tree/jobs/"
for program in "$tree/bin/sqlite3" "$tree/jobs/cc1"; do
    ldd "$program" | grep -o '/[^ ]*' | while read -r lib; do
        mkdir -p "$tree$(dirname "$lib")"
        cp -Lu "$lib" "$tree$lib"
    done
done
cat > "$tree/jobs/fill.sql" << 'SQL'
create table t (id integer primary key, word text, value integer);
with recursive c(x) as (values (1) union all select x + 1 from c where x < 6000)
insert into t select x, hex(x * 2654435761 % 4294967296), x * x % 9973 from c;
create index by_word on t (word);
SQL
cat > "$tree/jobs/change.sql" << 'SQL'
begin;
update t set value = value * 3 % 9973 where word > '35';
delete from t where value % 11 = 0;
insert into t (word, value) select word || id, id % 9973 from t where id % 5 = 0;
commit;
SQL
gcc -E -P -I "$here/../../include" -I "$here/../.." "$here/../../mmu/core/ring.c" -o "$tree/jobs/work.i"
{
    echo "checksum $(seq 1 $((n * 40000)) | sha256sum)"
    sqlite3 "$tree/db" < "$tree/jobs/fill.sql"
    for _ in $(seq "$n"); do sqlite3 "$tree/db" < "$tree/jobs/change.sql"; done
    echo "database ok $(sqlite3 "$tree/db" .dump | sha256sum)"
    (cd / && "$cc1" -fpreprocessed -quiet -O1 "$tree/jobs/work.i" -o "$tree/work.s")
    sed "s|$tree||" "$tree/work.s" > "$tree/work.guest.s"
    echo "compile $(sha256sum < "$tree/work.guest.s")"
} > "$out.want"
rm -f "$tree"/db "$tree"/work*
(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0) | gzip -1 | cat "$initrd" - > "$out.gz"
