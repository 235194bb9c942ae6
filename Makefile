# make help lists the targets. V=1 shows the commands.

HEADER   := prometheus_async.hpp
CXX      ?= g++
CXXFLAGS ?= -O1 -g
STRICT   := -std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor -Wundef -Werror
B        ?= build
TESTS    := $(patsubst tests/%.cpp,%,$(wildcard tests/test_*.cpp))

Q   = $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

test: $(TESTS:%=$B/tests/%.ok)  ## builds and runs every unit test

$B/tests/runner.o: tests/support/runner.cpp
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -std=c++20 $(CXXFLAGS) $(CPPFLAGS) -c $< -o $@

$B/tests/%: tests/%.cpp $B/tests/runner.o $(HEADER)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(STRICT) $(CXXFLAGS) $(CPPFLAGS) -I. $< $B/tests/runner.o -o $@ $(LDFLAGS) -pthread $(LDLIBS)

$B/tests/%.ok: $B/tests/%
	$(call say,TEST,$<)
	$(Q)$< && touch $@

clean:                          ## removes build/
	$(Q)rm -rf $B
.PHONY: test clean
.SECONDARY:
