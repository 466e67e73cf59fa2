# make help lists the targets.  Everything that is built goes to build/ (make dist: to dist/).

CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
PYTHON   ?= python3
export PYTHONDONTWRITEBYTECODE = 1
HEADERS   = rm.h rm_pool.h rm_cache.h rm_breaker.h rm_metrics.h
WARNINGS  = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wundef \
            -Wdouble-promotion
FLAGS     = -std=c11 $(WARNINGS) -I. -Itests -MMD -MP -MT $@ -MF $@.d $(CPPFLAGS)
LIBS      = -lsqlite3 -lcurl -lmicrohttpd

LESSONS   = $(filter-out examples/demo.c,$(wildcard examples/*.c))
EXAMPLES  = $(patsubst %.c,build/%,$(wildcard examples/*.c))
BENCHES   = $(patsubst %.c,build/%,$(wildcard bench/*.c))
UNITS     = $(basename $(notdir $(wildcard tests/unit/*.c)))
VARIANTS ?= plain asan tsan dist m32 musl wine
DRIVERS   = $(basename $(notdir $(wildcard tests/drivers/*.c)))
FUZZERS   = $(patsubst fuzz/fuzz_%.c,build/fuzz/%,$(wildcard fuzz/fuzz_*.c))
SCENARIOS = $(patsubst tests/%.c,build/%,$(filter-out %/dst.c,$(wildcard tests/dst/*.c)))
TESTS     = $(foreach variant,$(VARIANTS),$(UNITS:%=build/unit/$(variant)/%.test)) \
            $(foreach variant,$(filter plain asan tsan,$(VARIANTS)),$(DRIVERS:%=build/unit/$(variant)/%.test))

SETUPS    = setup-demo setup-bench setup-test setup-check setup-check-deep

.PHONY: help demo examples test check check-deep coverage mutants format bench dist install \
        uninstall clean programs fuzzers $(SETUPS)
.DELETE_ON_ERROR:

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1 -- \2/p' Makefile | awk -F' -- ' '{printf "%-16s %s\n", $$1, $$2}'

# ---- programs

demo: build/examples/demo ## build and run the demo: a cached SQLite catalogue and an HTTP origin that dies
	./build/examples/demo

examples: $(LESSONS:%.c=build/%) ## build and run every lesson in examples/
	@set -e; for lesson in $^; do echo "== $$lesson"; ./$$lesson; done

test: setup-test ## build and run all tests; the last line is "N passed, N failed"
	@MAKE="$(MAKE_COMMAND)" $(PYTHON) tests/run.py test

check-deep: setup-check-deep ## what takes longer: 10 million schedules, fuzzing, coverage, mutants, analysers
	@MAKE="$(MAKE_COMMAND)" $(PYTHON) tests/run.py check-deep

coverage: setup-check-deep ## what the unit tests do not reach: lines, branches, conditions (MC/DC)
	@$(PYTHON) tools/coverage.py

mutants: setup-check-deep ## changes of the code that no test notices
	@$(PYTHON) tools/mutants.py

check: setup-check ## check format, contract comments, warnings and include cost
	@$(PYTHON) tests/run.py check

format: ## let clang-format rewrite the sources
	clang-format -i $(HEADERS) $(shell find tests fuzz examples bench -name '*.[ch]')

bench: $(BENCHES) ## build and run the benchmarks; the results go to build/bench.tsv
	@printf 'area\tcase\tthreads\timplementation\tmetric\tvalue\n' > build/bench.tsv
	@set -e; for bench in $^; do echo "== $$bench"; ./$$bench >> build/bench.tsv; done
	@awk -F'\t' '{ printf "%-10s %-32s %8s  %-20s %-16s %14s\n", $$1, $$2, $$3, $$4, $$5, $$6 }' build/bench.tsv
	@! command -v gnuplot > /dev/null || gnuplot bench/pool_waits.gp # docs/pool_waits.svg

# ---- the headers as products

dist: ## write each header as a single file to dist/ (RENAME=foo_ changes every rm_ name)
	rm -rf dist
	$(PYTHON) tools/dist.py dist $(RENAME)

install: ## copy headers, pkg-config file and CMake package to PREFIX (/usr/local); DESTDIR is honoured
	install -d $(INCLUDE_DIR) $(PKGCONFIG_DIR) $(CMAKE_DIR)
	install -m 644 $(HEADERS) $(INCLUDE_DIR)
	sed 's/@VERSION@/$(VERSION)/' tools/rm.pc.in > $(PKGCONFIG_DIR)/rm.pc
	sed 's/@VERSION@/$(VERSION)/' tools/rm-config-version.cmake.in > $(CMAKE_DIR)/rm-config-version.cmake
	install -m 644 tools/rm-config.cmake $(CMAKE_DIR)

uninstall: ## remove what install copied
	rm -f $(HEADERS:%=$(INCLUDE_DIR)/%) $(PKGCONFIG_DIR)/rm.pc $(CMAKE_DIR)/rm-config*.cmake
	-rmdir $(INCLUDE_DIR) $(CMAKE_DIR)

clean: ## remove build/ and dist/
	rm -rf build dist

INCLUDE_DIR   = $(DESTDIR)$(PREFIX)/include/rm
PKGCONFIG_DIR = $(DESTDIR)$(PREFIX)/share/pkgconfig
CMAKE_DIR     = $(DESTDIR)$(PREFIX)/share/cmake/rm
VERSION       = $(shell awk '/define RM_BASE_VERSION / { \
                  print int($$3 / 10000) "." int($$3 / 100 % 100) "." $$3 % 100 }' rm.h)

# ---- rules

$(SETUPS): setup-%: # installs what the target needs, if it is missing
	@tools/setup.sh $*

build/examples/pool_event_loop: LIBS = -luv
build/examples/%: examples/%.c | setup-demo # -O0: to optimise them takes longer than to run them
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -O0 -pthread $< -o $@ $(LDFLAGS) $(LIBS)

# what pool and cache are compared with; the benches leave out what is not there
build/bench/bench_pool: LIBS = $(patsubst -I%,-isystem%,$(shell \
                               pkg-config --cflags --libs apr-util-1 apr-1; pkg-config --cflags --libs glib-2.0; \
                               pkg-config --cflags --libs zdb))
build/bench/bench_cache: LIBS = $(patsubst -I%,-isystem%,$(shell pkg-config --cflags --libs glib-2.0)) -lm

build/bench/%: bench/%.c | setup-bench
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -pthread $< -o $@ $(LDFLAGS) $(LIBS)

programs: $(TESTS) $(SCENARIOS) $(FUZZERS:%=%.replay) $(EXAMPLES)
fuzzers: $(FUZZERS)

# One unit test, built in every variant.  Where two compilers optimise in full they do so with the
# headers as most tests link them (rm.o); all else is compiled quickly, for that takes the most time.
QUICK    = $(CFLAGS) -g0
SANITIZE = -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all
MEMORY   = -fsanitize=address,undefined -D__SANITIZE_ADDRESS__ # the name that gcc gives by itself
RACES    = -fsanitize=thread -D__SANITIZE_THREAD__
# clang compiles in half of gcc's time, and what it sanitizes for races runs in half the time.
FASTEST := $(if $(shell command -v clang),clang,$(CC))
# clang with the libraries of mingw's gcc
WINDOWS = $(if $(filter clang,$(FASTEST)),clang --target=x86_64-w64-mingw32 -L$(dir $(shell \
          x86_64-w64-mingw32-gcc -print-libgcc-file-name)),x86_64-w64-mingw32-gcc)
build/unit/plain/%: UNIT = $(CC) $(FLAGS) $(CFLAGS) -O0
build/unit/asan/%:  UNIT = $(FASTEST) $(FLAGS) $(SANITIZE) -O0 $(MEMORY)
build/unit/tsan/%:  UNIT = $(FASTEST) $(FLAGS) $(SANITIZE) -O0 $(RACES)
build/unit/dist/%:  UNIT = $(FASTEST) -Ibuild/dist $(FLAGS) $(QUICK) -O0
build/unit/m32/%:   UNIT = $(CC) $(FLAGS) $(QUICK) -O0 -m32
build/unit/musl/%:  UNIT = musl-gcc $(FLAGS) $(QUICK) -O0 -static
build/unit/wine/%:  UNIT = $(WINDOWS) $(FLAGS) $(QUICK) -O0 -static

build/unit/plain/rm.o build/unit/dist/rm.o: UNIT += -O2
build/unit/tsan/rm.o: UNIT += -O1

# Most tests only declare the headers and link with tests/rm.c; the others implement them their way.
DECLARING := $(basename $(notdir $(shell grep -L '^#define RM_IMPLEMENTATION' tests/*/test_*.c)))

define unit_rule
build/unit/$(1)/rm.o: tests/rm.c
	@mkdir -p $$(@D)
	$$(UNIT) -pthread -c $$< -o $$@
$(DECLARING:%=build/unit/$(1)/%.test): build/unit/$(1)/rm.o
build/unit/$(1)/%.test: tests/unit/%.c
	@mkdir -p $$(@D)
	$$(UNIT) -pthread $$(filter %.c %.o,$$^) -o $$@ $$(LDFLAGS)
build/unit/$(1)/%.test: tests/drivers/%.c
	@mkdir -p $$(@D)
	$$(UNIT) -pthread $$(filter %.c %.o,$$^) -o $$@ $$(LDFLAGS) $$(LIBS)
endef
$(foreach variant,$(VARIANTS),$(eval $(call unit_rule,$(variant))))

# The deterministic scheduler: -fsanitize=thread makes the calls, and dst.o answers them.  What a
# scenario calls besides has to be in the list too, as a name for itself.
.SECONDARY: $(SCENARIOS:%=%.o)
build/dst/dst.o: tests/dst/dst.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -U_FORTIFY_SOURCE -O3 -g -fno-pie -c $< -o $@
build/dst/%.o: tests/dst/%.c tests/dst/symbols
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -U_FORTIFY_SOURCE -O1 -g1 -fno-pie -fno-builtin -fsanitize=thread -c $< -o $@
	objcopy --redefine-syms=tests/dst/symbols $@
	@nm -u $@ | awk 'NR == FNR { known[$$2]; next } !($$2 in known) && $$2 !~ /^(dst|__tsan)_/ { \
		print "$@: " $$2 " is not in tests/dst/symbols"; bad = 1 } END { exit bad }' tests/dst/symbols -
$(SCENARIOS): build/dst/%: build/dst/%.o build/dst/dst.o
	$(CC) -no-pie $(filter %.c %.o,$^) -o $@

# A fuzz target, and the same as a program that runs over its corpus.
build/fuzz/%: LIBS = $(if $(findstring /log,$@),-lcjson)
build/fuzz/replay.o: fuzz/replay.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -g1 -c $< -o $@
build/fuzz/%.replay: fuzz/fuzz_%.c build/fuzz/replay.o
	$(FASTEST) $(FLAGS) $(SANITIZE) -O0 $(MEMORY) -pthread $(filter %.c %.o,$^) -o $@ $(LIBS)
build/fuzz/%: fuzz/fuzz_%.c
	@mkdir -p $(@D)
	clang $(FLAGS) $(SANITIZE) -O1 -fsanitize=fuzzer,address,undefined -pthread $< -o $@ $(LIBS)

$(UNITS:%=build/unit/dist/%.test) build/unit/dist/rm.o: build/dist/rm_all.h
$(UNITS:%=build/unit/wine/%.test): | build/wine
build/wine: # the home of Windows programs; made once, before several start at a time
	WINEDEBUG=-all WINEPREFIX=$(abspath $@) wine wineboot -i >/dev/null 2>&1
build/dist/rm_all.h: $(HEADERS) tools/dist.py tools/headers.py
	$(PYTHON) tools/dist.py build/dist

-include $(wildcard build/examples/*.d build/bench/*.d build/unit/*/*.d build/dst/*.d build/fuzz/*.d)
