# The front door; CMake does the work. `make help` lists the targets.
BUILD ?= build
MAKEFLAGS += --no-print-directory
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
SUITE ?= trixie
CONFIGURE = cmake -S . -DCMAKE_INSTALL_PREFIX=$(PREFIX)

SECONDS ?= 60

.PHONY: all build setup demo test test-interop test-report test-mpi test-tensorboard table install clean format asan ubsan clang fuzz docs uninstall dist deb test-deb test-system help

all: build ## install what is missing and build build/ghostmax

setup:
	@tools/setup.sh build

build: setup
	@mkdir -p $(BUILD)
	@$(CONFIGURE) -B $(BUILD) >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD) -j $(JOBS)

demo: build ## the five-minute lab: trains, measures and quantizes five variants, prints the table
	@$(BUILD)/ghostmax lab --out demo

test: ## install what is missing, build, run every test
	@tools/setup.sh build test
	@tools/setup.sh --optional tools
	@$(MAKE) build
	@tools/run_tests.sh $(BUILD) $(JOBS)

test-interop: build ## our files in llama.cpp, transformers and the like (installs them in build/interop: minutes)
	@tools/setup.sh --optional interop
	@tools/run_interop.sh . $(BUILD)

test-tensorboard: build ## event files in the real TensorBoard, which is installed in build/interop
	@tools/setup.sh --optional interop
	@tools/run_interop.sh . $(BUILD) tensorboard

test-mpi: build ## ranks that stop, are lost, or have a network between them: minutes; `make test` has the rest
	@python3 -B tests/mpi/mpi_ranks.py . $(BUILD)

table: build ## the longer recorded run of README's table
	@tools/make_table.sh $(BUILD)/ghostmax

bench-check: build ## what became faster or slower since the record in bench/record.json, by more than the noise
	@python3 bench/check.py --ghostmax $(BUILD)/ghostmax

bench-record: build ## write that record and docs/performance.md's table; on a quiet machine, before a release
	@python3 bench/check.py --record --table docs/performance.md --ghostmax $(BUILD)/ghostmax

install: build ## program, library, headers, man pages, completion to PREFIX (default /usr/local)
	@umask 022 && cmake --install $(BUILD) --prefix $(PREFIX)
	@cp $(BUILD)/install_manifest.txt $(BUILD)/installed.txt

uninstall: ## remove what the last `make install` put down
	@tools/uninstall.sh $(BUILD)/installed.txt

dist: ## the tarball of the present commit, the same bytes every time
	@tools/dist.sh $(BUILD)

deb: ## Debian packages of the present commit, built from its tarball: ghostmax, libghostmaxN, libghostmax-dev
	@tools/setup.sh build
	@tools/make_deb.sh $(BUILD) $(JOBS)

test-deb: deb ## installs those packages on a clean Debian root and runs them there (as root; minutes)
	@tools/setup.sh deb
	@tools/test_deb.sh $(BUILD)

test-system: ## `make test` on a clean root of a Debian release, SUITE (default trixie; as root, half an hour)
	@tools/setup.sh deb
	@tools/test_system.sh $(SUITE)

.PHONY: test-crash test-faults soak
HOURS ?= 1
FAULTS ?= 100000

test-crash: build ## kill -9 of everything that writes, 100 times at random moments and once in every place that writes (minutes)
	@python3 -B tests/crash/crash.py $(BUILD)

test-faults: ## every place that allocates or calls the system fails once, under the address sanitizer (half an hour)
	@tools/setup.sh build test
	@$(CONFIGURE) -B build-asan -DGM_SANITIZE=address
	@cmake --build build-asan -j $(JOBS) --target ghostmax-faults
	@python3 -B tests/faults/faults.py build-asan $(FAULTS) all $(JOBS)

soak: build ## a lab of HOURS (default 1): memory and open files flat, logs small, killed and resumed at the end
	@python3 -B tests/soak/soak.py $(BUILD) $(HOURS)

# Sanitizers use the plain C matrix product: no uninstrumented library in the way. Left out are the scripts about packages, headers, symbols,
# format and other compilers, to which a sanitizer adds nothing, and those of MPI, which is such a library: `make test` has them.
# A report's exit code (99) is none of the program's own, so that no test takes one for a refusal.
NOT_SANITIZED = project_|_aarch64|_one_symbol|cli_mpi
asan: ## every test of what runs, under the address sanitizer
	@ASAN_OPTIONS=exitcode=99 $(MAKE) checked NAME=asan FLAGS="-DGM_SANITIZE=address" SKIP="$(NOT_SANITIZED)"

ubsan: ## the same under the undefined-behaviour sanitizer
	@UBSAN_OPTIONS=exitcode=99:print_stacktrace=1 $(MAKE) checked NAME=ubsan FLAGS="-DGM_SANITIZE=undefined" SKIP="$(NOT_SANITIZED)"

# libomp's tool (libarcher) tells the sanitizer what OpenMP's own locks order; the libraries that are not ours are not looked into.
tsan: ## the tests under the thread sanitizer, on two threads (clang)
	@TSAN_OPTIONS=ignore_noninstrumented_modules=1 OMP_NUM_THREADS=2 $(MAKE) checked NAME=tsan \
	  FLAGS="-DCMAKE_C_COMPILER=clang -DGM_SANITIZE=thread -DGM_MPI=OFF" SKIP="$(NOT_SANITIZED)"

# What other libraries write is unknown to this sanitizer: tests/msan.c tells it, for which it stands where tests/faults/ would.
msan: ## the same under the memory sanitizer, on one thread (clang)
	@MSAN_OPTIONS=exitcode=99 $(MAKE) checked NAME=msan FLAGS="-DCMAKE_C_COMPILER=clang -DGM_SANITIZE=memory -DGM_OPENMP=OFF -DGM_MPI=OFF" \
	  SKIP="$(NOT_SANITIZED)"

lint: ## clang-tidy, cppcheck, gcc -fanalyzer: no findings
	@tools/setup.sh build
	@tools/setup.sh --optional tools
	@$(CONFIGURE) -B build-lint -DGM_MPI=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null
	@cmake --build build-lint -j $(JOBS) --target ghostmax >/dev/null
	@tools/lint.sh build-lint $(JOBS)

clang: ## every test of a build by clang
	@$(MAKE) checked NAME=clang FLAGS="-DCMAKE_C_COMPILER=clang"

fuzz: ## libFuzzer, SECONDS (default 60) on each format's reader; FUZZ=NAME: on one
	@tools/setup.sh build test
	@tools/setup.sh --optional tools
	@$(CONFIGURE) -B build-fuzz -DCMAKE_C_COMPILER=clang -DGM_FUZZ=ON -DGM_MPI=OFF >/dev/null
	@tools/run_fuzz.sh build-fuzz $(JOBS) $(SECONDS)

fuzz-afl: ## the same by AFL++, where it is there
	@command -v afl-clang-fast >/dev/null || { echo "fuzz-afl: needs AFL++ (apt-get install afl++)"; exit 1; }
	@tools/setup.sh build test
	@$(CONFIGURE) -B build-afl -DCMAKE_C_COMPILER=afl-clang-fast -DGM_FUZZ=ON -DGM_MPI=OFF >/dev/null
	@tools/run_fuzz.sh build-afl $(JOBS) $(SECONDS) afl

.PHONY: checked tsan msan lint fuzz-afl
checked:
	@tools/setup.sh build test
	@tools/setup.sh --optional tools
	@$(CONFIGURE) -B build-$(NAME) $(FLAGS)
	@cmake --build build-$(NAME) -j $(JOBS)
	@tools/run_tests.sh build-$(NAME) $(JOBS) $(if $(SKIP),-E "$(SKIP)")

test-report: build ## the report in a real headless Chromium (installed if it can be); screenshots in build/report
	@tools/setup.sh --optional report
	@python3 -B tests/report/browser_report.py $(BUILD)

docs: build ## docs/cli.md from the option tables
	@$(BUILD)/ghostmax help --markdown >docs/cli.md.tmp
	@mv docs/cli.md.tmp docs/cli.md

format: ## clang-format on every C file
	@tools/format.sh

clean: ## remove what was built
	@rm -rf $(BUILD) build-asan build-ubsan build-tsan build-msan build-clang build-lint build-fuzz build-afl

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
