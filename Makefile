# make help lists the targets and the variables; V=1 shows the commands.
MAKEFLAGS += -r

HEADER   := prometheus_async.hpp
CXX      ?= g++
CXXFLAGS ?= -O0 -g1
B        ?= build
LAB      ?= $B/lab
PORT     ?= 9464
RUN      ?=  # what runs a test that was built for another machine: qemu-mips
STRICT   := -std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor -Wundef -Werror
export CXX B LAB STRICT PORT CONFIGS JOBS N SEED MINUTES ROOMS UPDATE MUSL

# A word that is no target or variable is refused: "make tests" and "make test ONYL=core" did something else.
TARGETS   := $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' Makefile)
VARIABLES := $(shell sed -n 's/^\#   *\([A-Z]*\)=.*/\1/p' Makefile) STRICT SHELL MAKEFLAGS
$(foreach g,$(filter-out $(TARGETS) $B/% $(LAB)/%,$(MAKECMDGOALS)),$(error there is no target '$g': make help lists them))
$(foreach v,$(filter-out $(VARIABLES) -%,$(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))),$(error there is no variable '$v': make help lists them))
$(foreach w,$(filter-out exceptions threads network,$(WITHOUT)),$(error WITHOUT=$w: it takes exceptions, threads and network))
$(foreach v,B LAB,$(if $(filter 1,$(words $($v))),,$(error $v='$($v)': give one directory whose name has no blanks)))

# A test says in its first lines what it needs beyond doctest: "// libs: -lssl", "// needs-exceptions", ...
# A new test includes the header and no more: it is linked with the one implementation.o. Only a test of private
# names of the implementation half, or one that replaces system calls (support/faults.hpp, support/system.hpp), writes
# "#define PROMETHEUS_ASYNC_IMPLEMENTATION" before it. Such tests are compiled together as one unit, each file in a
# namespace of its own (so no "namespace std {" in them, and no operator new but that of support/allocations.hpp).
# A test that defines a PROMETHEUS_ASYNC_DETAIL_ macro, or one for memory, is compiled alone. One with PROMETHEUS_ASYNC_NO_NETWORK
# needs no network: compiled together with others it has one nevertheless.
# Each file runs in a process of its own. "make build/tests/test_x.log" builds and runs just one, of any form.
WITHOUT  ?=
ONLY     ?= .
SKIPPED  := $(shell grep -lE '^// needs-($(subst $() ,|,$(strip $(WITHOUT:%=%) none)))' tests/test_*.cpp)
TESTS    := $(filter-out $(SKIPPED),$(shell grep -lE '$(ONLY)' tests/test_*.cpp))
$(if $(strip $(TESTS)),,$(if $(filter test test-real,$(MAKECMDGOALS)),$(error no test contains ONLY=$(ONLY))))
$(foreach t,$(filter-out $(wildcard $(TESTS)),$(TESTS)),$(error there is no test '$t': TESTS takes files as tests/test_core.cpp))
REAL     := $(shell grep -lE '^// libs:' $(TESTS) /dev/null)
PRIVATE  := $(shell grep -lE '^.define PROMETHEUS_ASYNC_IMPLEMENTATION' tests/test_*.cpp)
PUBLIC   := $(filter-out $(PRIVATE),$(wildcard tests/test_*.cpp))
TOGETHER := $(filter-out $(shell grep -lE '^.define PROMETHEUS_ASYNC_(DETAIL_|ALLOCATE)' tests/test_*.cpp),$(PRIVATE))
together_test := $(filter $(TOGETHER),$(filter-out $(REAL),$(TESTS)))
together_real := $(filter $(TOGETHER),$(REAL))
logs      = $(patsubst tests/%.cpp,$B/together/%.log,$(filter $(TOGETHER),$1)) $(patsubst %.cpp,$B/%.log,$(filter-out $(TOGETHER),$1))
EXAMPLES := $(wildcard examples/[0-9]*.cpp)
REAL_EXAMPLES := $(shell grep -lE '^// libs:' $(EXAMPLES) /dev/null)
SUPPORT  := $(wildcard tests/support/*.hpp examples/*.hpp)
BENCHES  := $(wildcard tests/bench/bench_*.cpp)
# The tests of what must not compile do not depend on flags or switches: they are left out where TESTS or ONLY chooses tests.
test_logs := $(call logs,$(filter-out $(REAL),$(TESTS))) $(if $(filter command,$(origin TESTS) $(origin ONLY)),,$B/tests/compile_fail.log)
real_logs := $(call logs,$(REAL))
libs      = $$(sed -n 's,^// libs:,,p' $(filter %.cpp,$^) | sort -u)

# What each target builds, so that each step can say which one of them it is: "7 of 80". What is
# up to date is left out.
programs = $B/tests/runner.o $(if $(filter $(PUBLIC:%.cpp=$B/%.log),$1),$B/tests/implementation.o) \
    $(patsubst %.log,%,$(filter $B/tests/test_%,$1)) $(if $(filter $B/together/%,$1),$B/together/$2)
steps_examples  := $B/shared/O0.o $B/shared/O1.o $(patsubst %.cpp,$B/%,$(filter-out $(REAL_EXAMPLES),$(EXAMPLES)))
steps_test      := $(call programs,$(test_logs),test) $(test_logs)
steps_test-real := $(call programs,$(real_logs),real) $(real_logs) $B/shared/O0.o $(patsubst %.cpp,$B/%,$(REAL_EXAMPLES))
steps_bench     := $(patsubst tests/bench/%.cpp,$B/bench/%,$(BENCHES))
steps_e2e       := $(patsubst %.cpp,$B/%,$(EXAMPLES)) $(patsubst tests/e2e/%.cpp,$B/e2e/%,$(wildcard tests/e2e/*.cpp)) $B/e2e/our_server
LOADED          := $B/examples/01_quickstart $B/e2e/our_server $B/e2e/tls_server $B/e2e/gzip_server $B/e2e/soak
steps := $(words $(sort $(foreach g,$(or $(MAKECMDGOALS),examples),$(steps_$g))))
far    = $(if $(filter-out 0,$(steps)),$(eval begun += x)$(words $(begun)) of $(steps)  )
$(foreach g,$(filter test test-real check e2e,$(MAKECMDGOALS)),\
    $(info make $g: $(shell sed -n 's/^$g:.*\#\# //p' Makefile)$(if $(steps_$g), in at most $(words $(steps_$g)) steps)))

Q   = $(if $(V),,@)
say = $(if $(V),,@printf "  %-5s %s\n" $(1) "$(far)$(strip $(2))")

examples: $(steps_examples)  ## builds the examples that need nothing but a compiler

run: $B/examples/01_quickstart  ## serves real metrics on port 9464 (PORT=...) until Ctrl-C
	$(Q)exec $< "$$PORT"

test: deps $(test_logs)  ## builds and runs every unit test
	$(Q)tests/support/tally.sh $(filter %.log,$^)

test-real: $(real_logs) $(if $(filter command,$(origin TESTS)),,$(patsubst %.cpp,$B/%,$(REAL_EXAMPLES)))  ## the tests against asio, OpenSSL, mbedTLS, prometheus-cpp
	$(Q)tests/support/tally.sh $(filter %.log,$^)

check-long:  ## matrices that take long: run it once before a release
	$(Q)tests/support/fuzz.sh $(if $(SECONDS),$(SECONDS),300)
	$(Q)CXX= CONFIGS="gcc-asan gcc-tsan gcc-O2 clang19-tsan-real fast-math" tests/support/check.sh
	$(Q)PLUGINS=full sh tests/e2e/plugins.sh

check:  ## the tests under other compilers, sanitizers and switches
	$(Q)CXX= tests/support/check.sh

e2e: $(LAB)/.ready $(steps_e2e)  ## a real Prometheus, Consul and curl against the examples
	$(Q)tests/support/e2e.sh

soak: $B/e2e/soak  ## mixed load, abuse and churn for MINUTES: memory and descriptors flat, no scrape lost
	$(Q)python3 tests/support/soak.py $< $(if $(MINUTES),$(MINUTES),60)

mutants: test  ## changes the header N times, and lists the changes that no test notices
	$(Q)CXX=$(CXX) python3 tests/support/mutants.py $(HEADER)

bench: $(steps_bench)  ## ratios against prometheus-cpp and the plain limits, in one run
	$(Q)tests/support/bench.sh

size:  ## what the library costs in a binary: goals, growth since tests/size.txt, bytes by room
	$(Q)tests/support/size.sh

lint:  ## each room compiles with the rooms it names, the README's code compiles
	$(Q)python3 tests/support/lint.py $(HEADER) README.md

manual:  ## build/manual: every public name, as HTML and Markdown
	$(Q)python3 tests/support/manual.py $(HEADER) README.md $B/manual

deps:  ## installs doctest, and nothing else; make test does it by itself
	$(Q)tests/support/doctest.sh $(CXX) -std=c++20 $(CXXFLAGS) $(CPPFLAGS)

# What things were built with; a change builds them again.
quoted = '$(subst ','\'',$1)'
stamp  = $(Q)mkdir -p $(@D); printf '%s\n' $(call quoted,$1) > $@.new; cmp -s $@.new $@ || cp $@.new $@
$B/compiler:      FORCE; $(call stamp,$(CXX))
$B/objects:       FORCE; $(call stamp,$(CXX) $(STRICT) $(CPPFLAGS))
$B/flags:         FORCE; $(call stamp,$(CXX) $(STRICT) $(CPPFLAGS) $(LDFLAGS))
$B/tests/objects: FORCE; $(call stamp,$(CXX) $(STRICT) $(CPPFLAGS) $(CXXFLAGS))
$B/tests/flags:   FORCE; $(call stamp,$(CXX) $(STRICT) $(CPPFLAGS) $(CXXFLAGS) $(LDFLAGS))

$(LAB)/.ready: tests/e2e/fetch.sh
	$(call say,FETCH,$(LAB))
	$(Q)sh tests/e2e/fetch.sh $(LAB) && touch $@

$B/tests/runner.o: tests/support/runner.cpp $B/tests/objects | deps
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -std=c++20 $(CXXFLAGS) $(CPPFLAGS) -c $< -o $@

$B/tests/implementation.o: $(HEADER) $B/tests/objects
	$(call say,CXX,$< (the implementation))
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(STRICT) $(CXXFLAGS) $(CPPFLAGS) -DPROMETHEUS_ASYNC_IMPLEMENTATION -x c++ -c $< -o $@

$(PUBLIC:%.cpp=$B/%): $B/tests/implementation.o

$B/tests/%: tests/%.cpp $B/tests/runner.o $(SUPPORT) $(HEADER) $B/tests/flags
	$(call say,CXX,$<)
	$(Q)$(CXX) $(STRICT) -fvisibility=hidden $(CXXFLAGS) $(CPPFLAGS) -I. $(filter tests/%.cpp %.o,$^) -o $@ $(LDFLAGS) -pthread $(libs)

$B/together/%.cpp: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)tests/support/together.sh $(together_$*) > $@.new; cmp -s $@.new $@ || cp $@.new $@

$B/together/test: $(together_test)
$B/together/real: $(together_real)
$B/together/%: $B/together/%.cpp $B/tests/runner.o $(SUPPORT) $(HEADER) $B/tests/flags
	$(call say,CXX,$(words $(together_$*)) tests as one unit: $(together_$*:tests/test_%.cpp=%))
	$(Q)$(CXX) $(STRICT) -fvisibility=hidden $(CXXFLAGS) $(CPPFLAGS) -I. -Itests $< $B/tests/runner.o -o $@ $(LDFLAGS) -pthread $(libs)

# Examples and end-to-end programs contain the implementation, as programs of users do. Here they share one that is
# compiled once: with optimisation for programs that are put under load.
$(LOADED): $B/shared/O1.o
# Two have their own: one uses the implementation to write a bound, the other gives it memory.
$(filter-out $(LOADED) $B/e2e/random_registry $B/examples/30_static_pool,$(steps_e2e)): $B/shared/O0.o
$B/shared/%.o: $(HEADER) $B/objects
	$(call say,CXX,$< (the implementation, -$*))
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(STRICT) -$* $(CPPFLAGS) -DPROMETHEUS_ASYNC_IMPLEMENTATION -x c++ -c $< -o $@
define program
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q){ echo '#line 1 "$<"'; sed $(if $(filter %.o,$^),-e '/^#define PROMETHEUS_ASYNC_IMPLEMENTATION$$/s/.*//') -e 's,^#include "\.\./prom,#include "prom,' $<; } | \
	    $(CXX) $(STRICT) $(or $(patsubst %.o,-%,$(notdir $(filter %.o,$^))),-O0) \
	    $(CPPFLAGS) -iquote $(<D) -I. -x c++ - -x none $(filter %.o,$^) -o $@ $(LDFLAGS) -pthread $(libs)
endef
$B/examples/%: examples/%.cpp $(wildcard examples/*.hpp) $(HEADER) $B/flags
	$(program)
$B/e2e/%: tests/e2e/%.cpp $(wildcard examples/*.hpp) $(HEADER) $B/flags
	$(program)
$B/e2e/%: tests/bench/%.cpp $(HEADER) $B/flags
	$(program)

$B/bench/%: tests/bench/%.cpp $(HEADER) $B/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(STRICT) -O2 -g $(CPPFLAGS) -I. $< -o $@ $(LDFLAGS) -pthread $(libs)

# A log ends with the program's exit status; tally.sh reads it, so one failure does not hide another.
$B/tests/%.log: $B/tests/%
	$(call say,TEST,$<)
	$(Q)timeout 300 $(RUN) $< > $@ 2>&1; echo "exit $$?" >> $@

$(together_test:tests/%.cpp=$B/together/%.log): $B/together/test
$(together_real:tests/%.cpp=$B/together/%.log): $B/together/real
$B/together/%.log:
	$(call say,TEST,tests/$*.cpp)
	$(Q)timeout 300 $(RUN) $< "--source-file=*/$*.cpp" --no-skipped-summary > $@ 2>&1; echo "exit $$?" >> $@

$B/tests/compile_fail.log: $(wildcard tests/compile_fail/*.cpp) tests/support/compile_fail.sh $(HEADER) $B/compiler
	$(call say,TEST,tests/compile_fail)
	$(Q)mkdir -p $(@D)
	$(Q)tests/support/compile_fail.sh "$(CXX)" $(filter %.cpp,$^) > $@ 2>&1; echo "exit $$?" >> $@

# The variables, as make help shows them:
#   CXX=g++          the compiler
#   CXXFLAGS="-O0 -g1"  of the tests alone
#   CPPFLAGS=        of everything, switches as -DPROMETHEUS_ASYNC_NO_THREADS=1
#   LDFLAGS=         of everything
#   B=build          where everything is built
#   V=1              shows the commands
#   ONLY=.           make test: only the test files that hold this regular expression
#   TESTS=           make test: these files
#   WITHOUT=         make test: leaves out what needs exceptions, threads, network
#   RUN=             make test: what runs a program that was built for another machine, as qemu-mips
#   PORT=9464        make run: where it serves; 0 is any free port
#   LAB=build/lab    make e2e: where Prometheus, Consul, ... are unpacked
#   CONFIGS=         make check: only these, as "gcc-asan clang19-tsan forms"
#   SECONDS=300      make check-long: how long each fuzzer runs
#   JOBS=2           make check, make mutants: how many programs are compiled at once
#   N=20             make mutants: how many changes
#   SEED=1           make mutants: which
#   ROOMS=           make mutants: only in these rooms of the header, as "44 50"
#   MUSL=            make size: for musl too (MUSL=1; zig, from the npm registry)
#   UPDATE=          make size: writes tests/size.txt (UPDATE=1)
#   MINUTES=60       make mutants: begins no change after so long; make soak: how long
#   RESULTS=         make mutants: a file for the results, so that a stopped run can be continued
help:  ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@sed -n 's/^\#   *\([A-Z]*=.*\)/  \1/p' Makefile

clean:  ## removes build/
	$(Q)rm -rf $B

.PHONY: examples run test test-real check e2e bench mutants soak size lint manual deps check-long help clean FORCE
.SECONDARY:
