# make              build/release/doppel
# make sanitized    build/sanitized/doppel, with AddressSanitizer and UBSan
# make test         all tests: both builds, both compilers, unit and end-to-end tests
# make test-quick   the same without clang, without other projects' servers, without the image
# make check        the linters; with other versions than CI's most of them only warn
# make unit         unit tests, T=stream for one of them
# make e2e          end-to-end tests, T='-k rst' for some; nothing is installed for these two
# make format       the sources, in place; make compile_commands.json for editors
# make cases        which cases of the catalogue of faults have a test
# make fuzz         new inputs for the parsers, for SECONDS each; T=proxyproto for one of them
# make demo         a small show that ends by itself
# make bench        what doppel costs beside haproxy and nginx; make bench-quick in two minutes;
#                   T='--only rr64,conn' for some of it
# make install      with DESTDIR and PREFIX      make uninstall, make clean
#
# V=1 shows whole commands; CC=clang is as good as CC=gcc; JOBS=1 does one thing at a time.

VERSION := 0.1.0

PREFIX  ?= /usr/local
PYTHON  ?= /usr/bin/python3
JOBS    ?= $(shell nproc 2>/dev/null || echo 1)

ifeq ($(origin CC),default)
CC := gcc
endif
OTHER_CC := $(if $(findstring clang,$(CC)),gcc,clang)

MAKEFLAGS += --no-builtin-rules --jobs=$(JOBS)
SAY = $(if $(V),,@echo "  $(1)";)
.DELETE_ON_ERROR:
.SECONDARY:

# --- what is compiled, and how -------------------------------------------------------------------

SOURCES    := $(sort $(wildcard proxy/*.c proxy/*/*.c config/*.c))
# Answers are compared by tests alone so far; the program comes without them.
PROGRAM    := $(filter-out proxy/answers/%,$(SOURCES))
HEADERS    := $(sort $(wildcard proxy/*/*.h config/*.h))
BENCH_C    := $(sort $(wildcard tools/benchmark/*.c))
UNIT_TESTS := $(sort $(wildcard tests/unit/test_*.c))
FUZZ_TESTS := $(sort $(wildcard tests/fuzz/fuzz_*.c))
MACHINE    := $(shell uname -m)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wpointer-arith -Wvla -Wswitch-enum
LANGUAGE := -std=gnu11 -D_GNU_SOURCE -I. -Iproxy -DDOPPEL_VERSION='"$(VERSION)"'
ALL_C    := $(LANGUAGE) $(WARNINGS) -MMD -MP
LIBS     := -lev -lcares -linih -lmicrohttpd -ljansson -lssl -lcrypto -lm
TEST_LIBS := $(LIBS) -lxxhash -lz -lcmocka

hardening_x86_64  := -fstack-clash-protection -fcf-protection
hardening_aarch64 := -mbranch-protection=standard
RELEASE_C  := -O2 -g -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
              $(hardening_$(MACHINE))
RELEASE_LD := -pie -Wl,-z,relro,-z,now -Wl,--as-needed

SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE_C := -O1 -g -fno-omit-frame-pointer $(SANITIZERS)

# Each form of the program has a directory of its own: build/FORM/doppel, build/FORM/obj/.
release_objects   := $(PROGRAM:%.c=build/release/obj/%.o)
sanitized_objects := $(SOURCES:%.c=build/sanitized/obj/%.o)
other_objects     := $(patsubst %.c,build/other/obj/%.o,$(SOURCES) $(BENCH_C))
bench_objects     := $(BENCH_C:%.c=build/release/obj/%.o)
unit_objects      := $(UNIT_TESTS:%.c=build/sanitized/obj/%.o)
fuzz_objects      := $(FUZZ_TESTS:%.c=build/sanitized/obj/%.o) build/sanitized/obj/tests/fuzz/replay.o
unit_programs     := $(UNIT_TESTS:tests/unit/%.c=build/sanitized/unit/%)

# What these goals need is installed before anything is compiled.
SET_OF_demo        := build
SET_OF_test-quick  := quick
SET_OF_test        := test
SET_OF_check       := check
SET_OF_bench       := bench
SET_OF_bench-quick := bench
SETS  := $(sort $(foreach goal,$(MAKECMDGOALS),$(SET_OF_$(goal))))
TOOLS := $(if $(SETS),deps)

.PHONY: release sanitized other-compiler
release: build/release/doppel
sanitized: build/sanitized/doppel
# The program must be free of warnings with both compilers.
other-compiler: $(other_objects)

build/release/doppel: $(release_objects)
	$(call SAY,LINK $@)$(CC) $(RELEASE_C) $(CFLAGS) $(RELEASE_LD) $(LDFLAGS) $^ $(LIBS) -o $@

build/sanitized/doppel: $(PROGRAM:%.c=build/sanitized/obj/%.o)
	$(call SAY,LINK $@)$(CC) $(SANITIZE_C) $(LDFLAGS) $^ $(LIBS) -o $@

# Both ends of a measurement, for tools/bench.
LINK_BENCH = @mkdir -p $(@D)$(if $(V),,; echo "  LINK $@"); \
    $(CC) $(RELEASE_C) $(CFLAGS) $(RELEASE_LD) $(LDFLAGS)
BENCH_DIR := build/release/obj/tools/benchmark
build/bench/load: $(addprefix $(BENCH_DIR)/,load.o wire.o histogram.o ends.o)
	$(LINK_BENCH) $^ -lssl -lcrypto -o $@
build/bench/sink: $(addprefix $(BENCH_DIR)/,sink.o ends.o)
	$(LINK_BENCH) $^ -o $@

# Everything but main(), from which a unit test takes what it calls.
build/sanitized/doppel.a: $(filter-out %/main.o,$(sanitized_objects))
	@rm -f $@
	$(call SAY,AR $@)$(AR) rcs $@ $^

# A test that defines __wrap_NAME(), itself or in a header of the tests, stands in for NAME.
WRAPS = $$(sed -n 's/.*\b__wrap_\([a-z0-9_]*\)(.*/-Wl,--wrap=\1/p' tests/unit/$(*F).c \
    $$(sed -n 's|^\#include "\(tests/unit/.*\)"|\1|p' tests/unit/$(*F).c) | sort -u)
build/sanitized/unit/%: build/sanitized/obj/tests/unit/%.o build/sanitized/doppel.a
	@mkdir -p $(@D)
	$(call SAY,LINK $@)$(CC) $(SANITIZE_C) $(LDFLAGS) $^ $(TEST_LIBS) $(WRAPS) -o $@

# Without the fuzzer a target only replays its corpus; then any compiler will do.
build/sanitized/fuzz/%: build/sanitized/obj/tests/fuzz/fuzz_%.o \
                        build/sanitized/obj/tests/fuzz/replay.o build/sanitized/doppel.a
	@mkdir -p $(@D)
	$(call SAY,LINK $@)$(CC) $(SANITIZE_C) $(LDFLAGS) $^ $(TEST_LIBS) -o $@

build/release/obj/%.o: %.c build/release/compiler | $(TOOLS) build/headers-build
	@mkdir -p $(@D)
	$(call SAY,CC $<)$(CC) $(ALL_C) $(RELEASE_C) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(unit_objects) $(filter build/sanitized/obj/proxy/answers/%,$(sanitized_objects)): | build/headers-quick
build/sanitized/obj/%.o: %.c build/sanitized/compiler | $(TOOLS) build/headers-build
	@mkdir -p $(@D)
	$(call SAY,CC $< (sanitized))$(CC) $(ALL_C) $(SANITIZE_C) $(CPPFLAGS) -c $< -o $@

build/other/obj/%.o: %.c build/other/compiler | $(TOOLS)
	@mkdir -p $(@D)
	$(call SAY,CC $< ($(OTHER_CC)))$(OTHER_CC) $(ALL_C) -O2 -c $< -o $@

# Holds the compiler and its flags and changes only when they do: then everything is compiled anew.
build/%/compiler: always
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_C) $(RELEASE_C) $(SANITIZE_C) $(CPPFLAGS) $(CFLAGS)' | cmp -s - $@ || \
	    echo '$(CC) $(ALL_C) $(RELEASE_C) $(SANITIZE_C) $(CPPFLAGS) $(CFLAGS)' > $@

# Where a library is missing, one sentence names its package before a compiler complains.
build/headers-%: build/release/compiler | $(TOOLS)
	@CC='$(CC)' CPPFLAGS='$(CPPFLAGS)' tools/deps headers $*
	@touch $@

.PHONY: always
always:

-include $(patsubst %.o,%.d,$(release_objects) $(sanitized_objects) $(other_objects) $(unit_objects) \
    $(fuzz_objects) $(bench_objects))

# --- checks --------------------------------------------------------------------------------------

C_FILES       := $(SOURCES) $(HEADERS) $(UNIT_TESTS) $(sort $(wildcard tests/fuzz/*.c \
     tests/unit/*.h tests/support/*.c tools/benchmark/*.[ch]))
SHELL_SCRIPTS := $(shell grep -lE '^\#!.*/(ba)?sh' .ci/* tools/* 2>/dev/null)
PYTHON_FILES  := tests tools/benchmark $(shell grep -lE '^\#!.*python3' tools/* 2>/dev/null)

.PHONY: check check-layers check-names check-format check-tidy check-cppcheck check-shell check-python
check: check-layers check-shell check-python check-format check-names check-cppcheck check-tidy

check-layers: | $(TOOLS)
	@echo "  CHECK layers"
	@tools/check_layers --self-test
	@tools/check_layers

check-names: | $(TOOLS)
	@echo "  CHECK names"
	@tools/check_names

check-format: | $(TOOLS)
	@echo "  CHECK format"
	@tools/lint clang-format tools/format --check $(C_FILES)

check-shell: | $(TOOLS)
	@echo "  CHECK shell"
	@tools/lint shellcheck shellcheck $(SHELL_SCRIPTS)

check-python: | $(TOOLS)
	@echo "  CHECK python"
	@PYTHON=$(PYTHON) tools/lint flake8 $(PYTHON) -m flake8 --max-line-length 110 $(PYTHON_FILES)

check-cppcheck: | $(TOOLS)
	@echo "  CHECK cppcheck"
	@tools/lint cppcheck cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr \
	    --library=tools/cppcheck.cfg --suppress=missingInclude --std=c11 -D_GNU_SOURCE -I. -Iproxy \
	    $(SOURCES) $(BENCH_C)

# One target per file, so that they run side by side and only what changed is looked at again.
check-tidy: $(patsubst %.c,build/tidy/%.checked,$(SOURCES) $(BENCH_C))
build/tidy/%.checked: %.c $(HEADERS) .clang-tidy tools/analysis.h | $(TOOLS)
	@mkdir -p $(@D)
	$(call SAY,TIDY $<)tools/lint clang-tidy clang-tidy --quiet $< -- $(LANGUAGE) \
	    $(if $(filter-out %/fault.c,$<),-include tools/analysis.h) 2> $@.log || { cat $@.log; false; }
	@touch $@

# For editors and clangd.
compile_commands.json: export COMPILE = $(CC) $(LANGUAGE) $(WARNINGS)
compile_commands.json: Makefile $(SOURCES) $(UNIT_TESTS)
	@$(PYTHON) -c "import json, os, shlex, sys; \
	    command = shlex.split(os.environ['COMPILE']); \
	    json.dump([dict(directory=os.getcwd(), file=name, arguments=[*command, '-c', name]) \
	               for name in sys.argv[1:]], sys.stdout, indent=1)" $(SOURCES) $(UNIT_TESTS) > $@

.PHONY: format
format:
	tools/format $(C_FILES)

# --- tests ---------------------------------------------------------------------------------------

RUN_E2E := cd tests && DOPPEL='$(CURDIR)/build/sanitized/doppel' \
    DOPPEL_RELEASE='$(CURDIR)/build/release/doppel' UBSAN_OPTIONS=print_stacktrace=1 \
    PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -q -p no:cacheprovider -n 4 --dist loadgroup

.PHONY: test test-quick unit e2e cases replay fuzz
# pytest comes last, so that its closing line is the last one.
test: release sanitized other-compiler bench-programs unit replay
	@$(RUN_E2E) $(T)

test-quick: release sanitized bench-programs unit replay
	@$(RUN_E2E) -m 'not foreign and not image' $(T)

e2e: sanitized release bench-programs
	@$(RUN_E2E) $(T)

cases:
	@tools/check_cases

unit_wanted := $(if $(filter unit,$(MAKECMDGOALS)),$(T))
unit: $(addsuffix .run,$(if $(unit_wanted),build/sanitized/unit/test_$(unit_wanted),$(unit_programs)))
build/sanitized/unit/%.run: build/sanitized/unit/% always
	@UBSAN_OPTIONS=print_stacktrace=1 ./$< > $<.log 2>&1 || { cat $<.log; false; }
	@echo "  UNIT $(*F): $$(grep -c '^\[       OK' $<.log) passed"

# What the fuzzer has found to be different, and whatever once went wrong.
replay: $(FUZZ_TESTS:tests/fuzz/fuzz_%.c=build/sanitized/fuzz/%.run)
build/sanitized/fuzz/%.run: build/sanitized/fuzz/% always
	@UBSAN_OPTIONS=print_stacktrace=1 ./$< tests/fuzz/corpus/$*/* > $<.log 2>&1 || { cat $<.log; false; }
	@echo "  FUZZ $*: $$(cat $<.log) replayed"

SECONDS ?= 600
FUZZ_C  := -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
FUZZED  := $(if $(T),$(T),$(FUZZ_TESTS:tests/fuzz/fuzz_%.c=%))
fuzz: $(FUZZED:%=build/fuzz/%.run)
build/fuzz/%: tests/fuzz/fuzz_%.c $(SOURCES) $(HEADERS)
	@mkdir -p $@.found
	$(call SAY,CLANG $@)clang $(LANGUAGE) $(FUZZ_C) $< $(filter-out proxy/main.c,$(SOURCES)) $(LIBS) -lxxhash -lz -o $@
build/fuzz/%.run: build/fuzz/% always
	cd build/fuzz && ./$* -max_len=4200 -max_total_time=$(SECONDS) $*.found ../../tests/fuzz/corpus/$*

# --- tools, demo, bench, installation ------------------------------------------------------------

.PHONY: deps demo bench bench-quick bench-programs install uninstall clean
deps:
	@tools/deps $(SETS)

demo: build/release/doppel
	@tools/demo

bench-programs: build/bench/load build/bench/sink
bench: release bench-programs
	@tools/bench $(T)
bench-quick: release bench-programs
	@tools/bench --quick $(T)

DOCUMENTS := $(wildcard README.md CHANGELOG.md LICENSE docs/*.md docs/*.svg)
BIN = $(DESTDIR)$(PREFIX)/bin
MAN = $(DESTDIR)$(PREFIX)/share/man/man1
SHARE = $(DESTDIR)$(PREFIX)/share/doppel
DOC = $(DESTDIR)$(PREFIX)/share/doc/doppel

install: build/release/doppel
	install -D -m 755 build/release/doppel $(BIN)/doppel
	install -D -m 644 -t $(SHARE) config/doppel.conf packaging/doppel.service packaging/doppel.socket
	install -D -m 644 -t $(DOC) $(DOCUMENTS)
	install -D -m 644 -t $(MAN) man/doppel.1
	sed -i 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' $(SHARE)/doppel.service
	sed -i 's|/usr/local/|$(PREFIX)/|' $(MAN)/doppel.1

uninstall:
	rm -f $(BIN)/doppel $(MAN)/doppel.1
	rm -rf $(SHARE) $(DOC)

clean:
	rm -rf build
