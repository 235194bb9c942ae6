#!/bin/sh
# What make refuses, what it builds again, how it installs doctest and how it counts: on a copy of the project, with
# compilers, package managers and test programs that are scripts.
. "$(dirname "$0")/lib.sh"
real_cxx=${CXX:-g++}
unset B LAB CXX CXXFLAGS CPPFLAGS LDFLAGS PORT STRICT CONFIGS JOBS MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES
cp -r Makefile prometheus_async.hpp README.md examples tests "$tmp/"
git clone -q . "$tmp/bare" 2> "$tmp/clone.log" || { mkdir "$tmp/bare" && cp -r Makefile prometheus_async.hpp examples tests "$tmp/bare/"; }
cd "$tmp" || exit 1

# What the README says first, from a clone in which nothing is built.
start run make -C bare CXX="$real_cxx" run PORT=0

# The compiler: notes what it makes, and makes scripts. It finds doctest unless $tmp/no-doctest is there.
mkdir bin
cat > bin/stub-c++ <<'SH'
#!/bin/sh
out= first= source=
for word in "$@"; do
    [ "$first" = -o ] && out=$word
    case $word in tests/compile_fail/*.cpp) source=$word ;; esac
    first=$word
done
case " $* " in
    *" -E "*) ! grep -q doctest || [ ! -e "$STUB/no-doctest" ]; exit ;;
    *" -fsyntax-only "*) echo "x: error: $(sed -n 's,^// expect: ,,p' "$source")" >&2; exit 1 ;;
esac
echo "$out" >> "$STUB/made"
printf '#!/bin/sh\n[ $# = 1 ] && echo "$(basename "$0") serves <$1>"\n%s\n' "echo '[doctest] test cases: 2 | 2 passed | 0 failed | 0 skipped'" > "$out"
case $out in */${BREAKS:-none}) printf '#!/bin/sh\n%s\n' "$BREAKS_BY" > "$out" ;; esac
chmod +x "$out"
SH
chmod +x bin/stub-c++
cp bin/stub-c++ bin/other-c++
export STUB="$tmp" PATH="$tmp/bin:$PATH"

mk() { make CXX=stub-c++ "$@" > said 2>&1; }  # the last CXX= counts
refuses() { # pattern command...: fails with 2, by a sentence, before anything is made
    pattern=$1; shift; rm -f made
    "$@" > said 2>&1; status=$?
    cat said
    [ $status = 2 ] && grep -qe "$pattern" said && [ ! -e made ]
}
makes() { # "what it makes, sorted" make-argument...
    wanted=$1; shift; rm -f made; : > made
    mk "$@" || { cat said; return 1; }
    [ "$(sort -u made | sed 's,^build/,,' | tr '\n' ' ')" = "$wanted" ] || { echo "made: $(sort -u made | tr '\n' ' ')"; echo "wanted: $wanted"; false; }
}

for target in tests tset chekc all install Makefile README.md tests/test_core.cpp examples/01_quickstart FORCE test_core 'test tset'; do
    ok "make $target is refused" refuses "no target '" make CXX=stub-c++ $target
done
ok "a file below build that nothing makes is refused" refuses 'No rule to make target' make CXX=stub-c++ build/tests/test_nothing.log
for word in ONYL=core CXXFLAG=-O2 cxx=g++ PORTS=1 TEST=core DESTDIR=/x CC=gcc VARIABLES=x; do
    ok "make test $word is refused" refuses "no variable '" make CXX=stub-c++ test "$word"
done
ok "a value that nothing takes is refused: WITHOUT" refuses 'WITHOUT=exception:' make CXX=stub-c++ WITHOUT=exception test
ok "a value that nothing takes is refused: ONLY" refuses 'no test contains ONLY=' make CXX=stub-c++ ONLY=no_such_words_anywhere test
ok "a value that nothing takes is refused: TESTS" refuses "no test 'tests/test_nothing.cpp'" make CXX=stub-c++ TESTS=tests/test_nothing.cpp test
ok "a value that nothing takes is refused: CONFIGS" refuses 'no configuration "gcc"' make CXX=stub-c++ CONFIGS=gcc check
for jobs in x 0 -1 2x; do ok "a value that nothing takes is refused: JOBS=$jobs" refuses "JOBS=$jobs: give" make CXX=stub-c++ JOBS=$jobs check; done
for span in x 0 -1 2s; do ok "a value that nothing takes is refused: SECONDS=$span" refuses "SECONDS=$span: give" make CXX=stub-c++ SECONDS=$span check-long; done
for word in N=x N=0 SEED=-1 MINUTES=1.5 JOBS=0; do ok "make mutants $word is refused" refuses "${word%%=*}=${word#*=}: give" env "$word" python3 tests/support/mutants.py prometheus_async.hpp; done
ok "make mutants ROOMS=99 is refused" refuses 'ROOMS: there is no room 99' env ROOMS="44 99" python3 tests/support/mutants.py prometheus_async.hpp
for dir in "" "a b"; do ok "B='$dir' is refused" refuses "B='$dir': give" make CXX=stub-c++ B="$dir" clean; done
ok "a compiler that is not there is refused, and nothing is installed for it" refuses 'CXX: cannot compile with: no-such-c++' make CXX=no-such-c++ deps

listed() { for t in $(sed -n 's/^\([a-z0-9-]*\):.*##.*/\1/p' Makefile); do grep -q "^  make $t " said || { echo "$t is not listed"; return 1; }; done; }
ok "make help works" mk help
ok "make help lists each target that says what it does" listed
for v in ONLY WITHOUT V CXX CXXFLAGS CPPFLAGS LDFLAGS B PORT TESTS RUN LAB CONFIGS JOBS SECONDS N SEED ROOMS MINUTES; do ok "make help lists $v" grep -q "^  $v=" said; done

# The port goes to the program as it was given; each example reads it by examples/port.hpp.
printf '#include "examples/port.hpp"\nint main(int argc, char** argv) { std::printf("%%u", unsigned{port_of(argc, argv)}); }\n' > port.cpp
ok "port.hpp compiles" "$real_cxx" -std=c++20 -I. port.cpp -o port
takes() { [ "$(./port "$1")" = "$2" ]; }
for good in 0 1 9464 65535; do ok "$good is a port" takes "$good" "$good"; done
ok "without an argument it is 9464" sh -c '[ "$(./port)" = 9464 ]'
for bad in abc 99999 65536 '0?' '' -1 +1 ' 80' '80 ' 0x50 8080x 80.0 4294967376 18446744073709551696 1e3; do
    ok "'$bad' is no port" refuses "\"$bad\" is no port" ./port "$bad"
done
ok "no example reads a port by itself" sh -c '! grep -nE "(atoi|strto[a-z]+|stoi|stoul|from_chars)\(.*argv" examples/*.cpp'
for port in abc '0?' '' 9465; do
    ok "make run PORT='$port' tells the program" mk run PORT="$port"
    ok "make run PORT='$port' tells it just that" grep -qF "01_quickstart serves <$port>" said
done

served() { url=$(grep -o 'http://127[^ ]*' run.log) && curl -sS -m 5 "${url}metrics" | grep -q '^req_time_seconds_count [1-9]'; }
ok "make run in a bare clone serves real metrics" within 300 served

# What depends on a flag is built again, and no more.
public=$(grep -LE '^.define PROMETHEUS_ASYNC_IMPLEMENTATION|^// libs:' tests/test_*.cpp | head -n 1)
alone=tests/test_hash.cpp
together=tests/test_pollers.cpp
set -- TESTS="$public $alone $together"
p=$(basename "$public" .cpp)
objects="tests/implementation.o tests/runner.o"
programs="together/test $objects tests/test_hash tests/$p "
programs=$(echo $programs | tr ' ' '\n' | sort | tr '\n' ' ')
linked=$(echo $programs | tr ' ' '\n' | grep -v '\.o$' | tr '\n' ' ')
some=build/examples/02_labels
with_shared() { echo "shared/O0.o $1" | tr ' ' '\n' | sort | tr '\n' ' ' | sed 's/^ *//'; }
rm -rf build
ok "the first make test builds the tests" makes "$programs" "$@" test
ok "the next builds nothing" makes "" "$@" test
ok "an example is built, and the implementation for it" makes "examples/02_labels shared/O0.o " "$@" $some
ok "and then not again" makes "" "$@" $some
ok "CXXFLAGS: the tests are built again" makes "$programs" "$@" CXXFLAGS="-O1 -DX='a b'" test
ok "CXXFLAGS: not twice" makes "" "$@" CXXFLAGS="-O1 -DX='a b'" test
ok "CXXFLAGS: examples do not depend on them" makes "" "$@" CXXFLAGS="-O1 -DX='a b'" $some
ok "CXXFLAGS: back" makes "$programs" "$@" test
ok "LDFLAGS: what is linked is built again" makes "$linked" "$@" LDFLAGS=-lx test
ok "LDFLAGS: not twice" makes "" "$@" LDFLAGS=-lx test
ok "LDFLAGS: an example is linked again" makes "examples/02_labels " "$@" LDFLAGS=-lx $some
ok "CPPFLAGS: the tests are built again" makes "$programs" "$@" LDFLAGS=-lx CPPFLAGS=-DY test
ok "CPPFLAGS: an example is built again" makes "examples/02_labels shared/O0.o " "$@" LDFLAGS=-lx CPPFLAGS=-DY $some
ok "CXX: the tests are built again" makes "$programs" "$@" LDFLAGS=-lx CPPFLAGS=-DY CXX=other-c++ test
ok "CXX: an example is built again" makes "examples/02_labels shared/O0.o " "$@" LDFLAGS=-lx CPPFLAGS=-DY CXX=other-c++ $some
ok "CXX: not twice" makes "" "$@" LDFLAGS=-lx CPPFLAGS=-DY CXX=other-c++ test $some
ok "all back" makes "examples/02_labels $(with_shared "$programs")" "$@" test $some
touch prometheus_async.hpp
ok "the header: everything but doctest's runner is built again" makes "examples/02_labels $(with_shared "$(echo "$programs" | sed 's,tests/runner.o ,,')")" "$@" test $some

# How far it is.
rm -rf build
ok "make test says what it does" mk "$@" test
ok "... in how many steps" grep -q '^make test: builds and runs every unit test in at most 8 steps' said
ok "... each of them once, the last is the last" sh -c '[ "$(sed -n "s/^  [A-Z]* *\([0-9]*\) of 8  .*/\1/p" said | tr "\n" " ")" = "1 2 3 4 5 6 7 8 " ]'
ok "a single file has no count" mk build/tests/test_hash
for goal in test test-real check e2e; do ok "make $goal says what it does" sh -c "make CXX=stub-c++ -n $goal 2>&1 | grep -q '^make $goal: [a-z].* '"; done

# A test program in which nothing ran, or that ended badly, is a failure; the next make runs it again.
fails() { # script: make test with this as test_hash's program
    rm -rf build
    BREAKS=test_hash BREAKS_BY=$1; export BREAKS BREAKS_BY
    for time in 1 2; do
        mk TESTS="$public $alone" test && { unset BREAKS; return 1; }
        grep -q '==== build/tests/test_hash.log' said && grep -q ' 1 failed$' said || { unset BREAKS; cat said; return 1; }
    done
    unset BREAKS
    mk TESTS="$public" test
}
summary() { echo "echo '[doctest] test cases: $1 | $2 passed | $3 failed |'; exit $4"; }
ok "a test program without a case is a failure" fails "$(summary 0 0 0 0)"
ok "a test program that says nothing is a failure" fails "exit 0"
ok "a test program that fails is a failure" fails "$(summary 2 1 1 1)"
ok "a test program that breaks after its summary is a failure" fails "$(summary 2 2 0 3)"
ok "a test program that is killed is a failure" fails 'kill -9 $$'

# doctest is installed where it may be, and nothing else.
managers() { # name...: the only programs besides the shell's own
    rm -rf only; mkdir only
    for tool in sh cat grep rm; do ln -s "$(command -v $tool)" only/; done
    cp bin/stub-c++ only/
    for name in "$@" sudo id true; do
        printf '#!/bin/sh\n' > "only/$name"
        case $name in
            true) echo : ;;
            id)   echo 'echo ${ID:-1000}' ;;
            sudo) echo '[ "$SUDO" = yes ] && [ "$1" = -n ] && shift && exec "$@"; exit 1' ;;
            *)    echo 'echo "$(echo '"$name"') $*" >> "$STUB/installed"; [ "$BROKEN" != yes ] || exit 100'
                  echo 'case "$*" in *install*|add*|-S*) rm "$STUB/no-doctest" ;; esac' ;;
        esac >> "only/$name"
        chmod +x "only/$name"
    done
}
asks() { # status "what is installed" pattern [VARIABLE=...]: doctest.sh, with these managers
    status=$1 wanted=$2 pattern=$3; shift 3
    : > installed; : > no-doctest
    env -u BROKEN "$@" PATH="$tmp/only" sh tests/support/doctest.sh stub-c++ > said 2>&1; got=$?
    cat said installed
    rm -f no-doctest
    [ $got = "$status" ] && [ "$(cat installed | tr '\n' ';')" = "$wanted" ] && [ "$(grep -c . said)" = 1 ] && grep -qxe "$pattern" said
}
it='doctest is missing; this installs it and nothing else:'
debian='apt-get install -y --no-install-recommends doctest-dev'
managers apt-get
ok "root: installs doctest alone" asks 0 "apt-get update -qq;$debian;" "  $it $debian" ID=0
ok "sudo that asks for nothing: installs doctest alone" asks 0 "apt-get update -qq;$debian;" "  $it sudo -n $debian" SUDO=yes
ok "otherwise: says the command, ends with 2" asks 2 "" "The tests need doctest: sudo $debian"
broken() { asks 2 "apt-get update -qq;" "  $it $debian" ID=0 BROKEN=yes || { [ "$(tail -n 1 said)" = "could not run: $debian" ] && [ "$(cat installed)" = "apt-get update -qq" ]; }; }
ok "an installation that fails: says so, ends with 2" broken
for pair in 'dnf|dnf install -y doctest-devel' 'apk|apk add doctest-dev' 'pacman|pacman -S --noconfirm doctest'; do
    managers "${pair%%|*}"
    ok "${pair%%|*}, root" asks 0 "${pair#*|};" "  $it ${pair#*|}" ID=0
    ok "${pair%%|*}, not root" asks 2 "" "The tests need doctest: sudo ${pair#*|}"
done
managers brew
ok "brew needs no root" asks 0 "brew install doctest;" "  $it brew install doctest"
managers
ok "no package manager that is known: says what is needed, ends with 2" asks 2 "" "The tests need doctest (https://.*no package manager.*" ID=0

managers apt-get
cp only/apt-get only/sudo only/id bin/
for goal in deps test; do
    touch no-doctest
    rm -rf build installed
    ok "make $goal without doctest and without root compiles nothing, and ends with 2" refuses "The tests need doctest: sudo $debian" env ID=1000 SUDO=no make CXX=stub-c++ "$@" $goal
    ok "make $goal without doctest and without root installs nothing" [ ! -e installed ]
done
ok "make test installs doctest first, then builds" env ID=0 make CXX=stub-c++ "$@" test
ok "it installed that alone" sh -c '[ "$(wc -l < installed)" = 2 ] && grep -qx "$1" installed' sh "$debian"
rm -rf build installed
touch no-doctest
ok "make deps installs doctest, and builds nothing" env ID=0 make CXX=stub-c++ deps
ok "make deps built nothing" [ ! -e build ]
rm -f installed
ok "make deps with doctest does nothing" env ID=0 make CXX=stub-c++ deps
ok "make deps with doctest installs nothing" [ ! -e installed ]
finish
