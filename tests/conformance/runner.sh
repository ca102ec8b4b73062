#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# conformance.py on a folder that looks like kvm-unit-tests and holds guests of ours: what it runs,
# what it leaves out and why, and what its exit code says.
#
#   runner.sh PENUMBRA ECHO
. "$(dirname "$0")/../cli/lib.sh"
echo=$2
folder=$work/kut
mkdir -p "$folder/x86"
cp "$echo" "$folder/x86/echo.flat"
echo ARCH=x86_64 > "$folder/config.mak"
cat > "$work/explained" << 'END'
# TEST | MMU | WHAT IT SAYS | REASON
known | * | two * | a reason
END

# conformance CODE [ARG...] < unittests.cfg: the table is in $work/table.
conformance() {
    local want=$1 rc=0
    shift
    cat > "$folder/x86/unittests.cfg"
    "$(dirname "$0")/conformance.py" --penumbra "$penumbra" --explained "$work/explained" --slow 1 \
        "$@" "$folder" > "$work/table" 2>&1 || rc=$?
    [ $rc -eq "$want" ] || fail "exit code $rc, not $want: $(cat "$work/table")"
}

# has WHAT REGEX: a line of the table.
has() {
    grep -qE "$2" "$work/table" || fail "$1: no line like $2: $(cat "$work/table")"
}

conformance 0 --mmu shadow,tdp << 'END'
# a comment
[good]
file = echo.flat
test_args = '0 PASS: one|PASS: two|SKIP: three'
[old]
file = echo.flat
extra_params = -m 64 -append '0 PASS: one'
[known]
file = echo.flat
smp = 2
test_args = '1 PASS: one|FAIL: two 0x17'
[skips]
file = echo.flat
test_args = '38 SKIP: nothing here'
[amd]
file = echo.flat
test_args = "0 `date +%s`"
qemu_params = -machine pit=off -cpu Opteron_G1,vendor=AuthenticAMD,+tsc-deadline,-pcid,-svm
[vmx]
file = echo.flat
test_args = '0 PASS: one'
qemu_params = -cpu max,+vmx
[hv]
file = echo.flat
qemu_params = -cpu host,hv_passthrough -device hyperv-testdev
[pmu]
file = echo.flat
groups = pmu
[other]
file = echo.flat
arch = i386
[manual]
file = echo.flat
groups = nodefault
[checked]
file = echo.flat
check = /nonexistent/parameter=Y
[iommu]
file = echo.flat
qemu_params = -device intel-iommu,intremap=on
[board]
file = echo.flat
qemu_params = -M q35
[lost]
file = lost.flat
[feature]
file = echo.flat
qemu_params = -cpu max,+nosuchthing
END
has "a test that passes" '^good +pass +pass +2 of 2, 1 skipped$'
has "parameters as older folders have them" '^old +pass +pass +1 of 1$'
has "a failure that is explained" '^known +explained +explained +1 of 2$'
has "its reason" '^ +tdp: two 0x17: a reason$'
has "a test that skips itself" '^skips +skip +skip '
has "why" '^ +shadow: it skips itself: nothing here$'
has "another vendor" '^amd +pass +pass '
has "nested virtualization" '^vmx +pass +pass '
has "Hyper-V" "Hyper-V's interface: hv$"
has "a PMU" 'PMU: pmu$'
has "another architecture" 'i386 only: other$'
has "what is not run by default" 'all: manual$'
has "a check of the host" 'asks for /nonexistent/parameter=Y: checked$'
has "a device" 'needs a device: intel-iommu: iommu$'
has "a board" 'another machine: q35: board$'
has "a file that was not built" 'not built: lost.flat: lost$'
has "a feature" 'nosuchthing: feature$'
has "the sum" '^6 tests ran under shadow, tdp; 0 results are not explained$'

conformance 1 --mmu shadow << 'END'
[bad]
file = echo.flat
test_args = '1 FAIL: one'
[known]
file = echo.flat
test_args = '1 FAIL: two 1|FAIL: two 2|FAIL: one'
[silent]
file = echo.flat
test_args = '3 PASS: one'
[lies]
file = echo.flat
test_args = '0 FAIL: but it says 0'
[hangs]
file = echo.flat
timeout = 1
END
for name in bad known silent lies hangs; do
    has "$name" "^$name +FAIL "
done
has "the failure" '^ +shadow: one$'
has "explained lines together" '^ +shadow: two 1 and 1 more: a reason$'
has "an exit code" '^ +shadow: ended: exit code 3$'
has "the end" '^ +shadow: ended: timeout$'
has "the sum" '; 5 results are not explained$'

conformance 1 --test 'nothing*' < "$folder/x86/unittests.cfg"
rm "$folder/config.mak"
conformance 2 < /dev/null
exit $bad
