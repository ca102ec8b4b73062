# SPDX-License-Identifier: MIT
# A thin front: CMake builds (CMakePresets.json), this file remembers the commands.
PRESET ?= release
BUILD  := build/$(PRESET)
JOBS   ?= $(shell nproc)
MMU    ?= shadow
CONFIGURED := $(BUILD)/build.ninja
# git-tracked and new C files, but for what the build makes.
SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h' '*.inc')

.PHONY: help all demo test test-guests test-nested test-lab test-debian13 guests debian-disk linux configure setup setup-test setup-distro format format-check tidy \
        rules reference differential killed conformance bench bench-commit bench-scale litmus tsan install deb clean distclean

help:
	@echo "make demo     install what is missing, build, run the embedded guest under --mmu $(MMU),"
	@echo "              then a short benchmark of every MMU, with its page"
	@echo "make linux    the same with Debian's kernel and busybox, to a shell (Ctrl-A x quits)"
	@echo "make test     install what is missing, build, run every test"
	@echo "make differential   random instructions in the software CPU and on this host's, without"
	@echo "              end (MODE=64|32, SEED=...; one million of them are in make test)"
	@echo "make killed   kill -9 saves, merges and migrations at 200 random places each, and spoil them otherwise (POINTS=..., SEED=...);"
	@echo "              then guests that write to a disk, 50 times (ROUNDS=...)"
	@echo "make litmus   two vCPUs that are threads, ten million rounds of what processors promise each other;"
	@echo "              then thirty boots with eight of them (BOOTS=...)"
	@echo "make tsan     what concerns --parallel, under ThreadSanitizer"
	@echo "make conformance KUT=FOLDER   run kvm-unit-tests, which you have built there, and print a table"
	@echo "make test-guests   boot newer kernels, too (scripts/guests.txt)"
	@echo "make test-nested   KVM of Linux 6.1, 6.12, 7.2 and 7.3 inside, AMD's and Intel's, both ways (some of test-guests)"
	@echo "make test-lab   the lab with KVM of Linux 6.1, 6.12, 7.2 and 7.3, under several QEMUs (some of test-guests)"
	@echo "make test-debian13   make demo and make test in a container of Debian 13 (SUITE=forky: of another),"
	@echo "              as root (ARGS=--help)"
	@echo "make guests   download the guests that make test boots"
	@echo "make debian-disk   the disk of penumbra bench debian.*: a Debian with compiler, databases and more (1.5 GB)"
	@echo "make all      build only (PRESET=dev|release|asan-ubsan|tsan|fuzz; now $(PRESET))"
	@echo "make bench    time a Linux boot, and what comes before it, beside QEMU"
	@echo "make bench-commit REV=...   this build beside that commit's: what must be equal, and time"
	@echo "make bench-scale   how a guest's work grows with its vCPUs under --parallel"
	@echo "make format   clang-format; make tidy: clang-tidy; make rules: who includes whom"
	@echo "make reference   make what is generated in docs/ anew"
	@echo "make install  to PREFIX (default /usr/local); make clean: remove build/"
	@echo "make deb      Debian packages in build/deb"

setup:
	@scripts/setup.sh build
setup-test:
	@scripts/setup.sh build test
setup-distro:
	@scripts/setup.sh build test distro

configure: setup
	@cmake --preset $(PRESET) $(CMAKE_ARGS) > $(if $(V),/dev/stderr,/dev/null)

debian-disk: setup-distro penumbra
	@cmake --build $(BUILD) -j $(JOBS) --target pn-linux-program
	@scripts/bench_image.sh

all: configure
	cmake --build $(BUILD) -j $(JOBS)

penumbra: configure
	@cmake --build $(BUILD) -j $(JOBS) --target penumbra

demo: penumbra
	@$(BUILD)/src/cli/penumbra run --mmu $(MMU) --summary < /dev/null
	@echo && $(BUILD)/src/cli/penumbra bench --quick --budget 1 --html $(BUILD)/bench.html \
	    --json $(BUILD)/bench.json < /dev/null && echo "Charts: $(BUILD)/bench.html"

linux: penumbra
	@scripts/setup.sh guest
	@cache=$$(scripts/guest.sh) && exec $(BUILD)/src/cli/penumbra run --mmu $(MMU) \
	    --kernel $$cache/vmlinuz --initrd $$cache/initrd.gz --append "console=ttyS0 quiet" $(ARGS)

# Download all guests of scripts/guests.txt with the word $(1).
fetch_guests = grep ' $(1) ' scripts/guests.txt | while read -r name when options; do \
    scripts/guest.sh $$options > /dev/null < /dev/null || exit 1; done

guests: setup-test
	@scripts/guest.sh > /dev/null
	@$(call fetch_guests,test)

# Guests that cannot be downloaded are failures of the tests that need them, which say why.
test: setup-test all
	@$(MAKE) -s guests || echo "test: not all guests can be downloaded; their tests will fail" >&2
	@tests/ctest.sh $(PRESET) -j $(JOBS) $(CTEST_ARGS)

test-guests: setup-distro all
	@$(call fetch_guests,test) && $(call fetch_guests,more)
	@tests/ctest.sh $(PRESET) -C guests -L guests -j $(JOBS) $(CTEST_ARGS)

test-nested: setup-test all
	@$(call fetch_guests,more)
	@tests/ctest.sh $(PRESET) -C guests -L nested -j $(JOBS) $(CTEST_ARGS)

test-lab: setup-distro all
	@$(call fetch_guests,more)
	@tests/ctest.sh $(PRESET) -C guests -L lab -j $(JOBS) $(CTEST_ARGS)

# What it builds and downloads is outside the tree.
test-debian13:
	@scripts/setup.sh container
	@scripts/debian.sh --suite $(or $(SUITE),trixie) $(ARGS)

differential: setup-test all
	@$(BUILD)/tests/diff/differential --count 0 --mode $(or $(MODE),64) --seed $(or $(SEED),$$$$) $(ARGS)

killed: setup-test all
	@tests/cli/killed.py $(BUILD)/src/cli/penumbra $(BUILD)/tests/cli/libchop.so $(or $(POINTS),200) $(or $(SEED),1)
	@tests/cli/migrate_faults.py $(BUILD)/src/cli/penumbra $(or $(POINTS),200) $(or $(SEED),1)
	@tests/guest/flush.sh $(BUILD)/src/cli/penumbra $(or $(ROUNDS),50)

conformance: setup-test all
	@tests/conformance/conformance.py --penumbra $(BUILD)/src/cli/penumbra $(ARGS) \
	    $(or $(KUT),$(error KUT=FOLDER says where kvm-unit-tests are built))

bench: setup-test all
	@G=$$(scripts/guest.sh) && $(BUILD)/bench/startup/startup --penumbra $(BUILD)/src/cli/penumbra \
	    --kernel $$G/vmlinuz --initrd $$G/initrd.gz
	@$(BUILD)/bench/micro/micro
	@bench/vs_qemu --penumbra $(BUILD)/src/cli/penumbra
	@bench/vs_native --penumbra $(BUILD)/src/cli/penumbra

bench-scale: setup-test all
	@bench/scale --penumbra $(BUILD)/src/cli/penumbra $(ARGS)

# Two vCPUs at once, ten million rounds; then thirty boots with eight.
litmus: setup-test all
	@cmake --build $(BUILD) --target litmus
	@tests/guest/parallel.sh $(BUILD)/src/cli/penumbra $(or $(BOOTS),30)

# What concerns --parallel, under ThreadSanitizer: the lock, the MMU beside who looks, flat guests with two vCPUs. Translated code
# and the dispatcher are not instrumented (cmake/Flags.cmake).
tsan: setup-test
	@cmake --preset tsan $(CMAKE_ARGS) > /dev/null
	@cmake --build build/tsan -j $(JOBS) --target penumbra engine_parallel engine-guests test_look
	@ctest --test-dir build/tsan --output-on-failure -R '^(engine.parallel.*|mmu_look)$$'

bench-commit: all
	@bench/vs_commit --penumbra $(BUILD)/src/cli/penumbra $(if $(REV),--commit $(REV)) $(ARGS)

# Each version breaks some lines elsewhere, so one decides: Debian 12's.
CLANG_FORMAT ?= clang-format
need_clang_format = @$(CLANG_FORMAT) --version | grep -q ' version 14\.' || { \
    echo "make: format is by clang-format 14, Debian 12's (CLANG_FORMAT=PROGRAM): this is not" >&2; exit 1; }

format:
	$(need_clang_format)
	$(CLANG_FORMAT) -i $(filter-out %.inc,$(SOURCES))

format-check:
	$(need_clang_format)
	@$(CLANG_FORMAT) --dry-run -Werror $(filter-out %.inc,$(SOURCES))

tidy: configure
	@scripts/setup.sh ci
	clang-tidy -p $(BUILD) --quiet $(filter src/%.c mmu/%.c,$(SOURCES))

rules:
	@tests/rules/check_rules.sh && tests/rules/check_lengths.sh && tests/rules/check_names.sh

reference: penumbra
	@docs/generate.sh $(BUILD)/src/cli/penumbra

install: all
	cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

deb: setup
	@scripts/setup.sh deb
	@scripts/deb.sh

clean:
	rm -rf build
distclean: clean
	rm -rf .cache
