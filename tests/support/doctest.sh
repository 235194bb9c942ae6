#!/bin/sh
# doctest.sh COMPILER...: makes sure that this compiler finds doctest: installs it if it has the rights to, otherwise prints how,
# and ends with 2.
set -u
said=$("$@" -E -x c++ - < /dev/null 2>&1 > /dev/null) || { echo "CXX: cannot compile with: $*" >&2; echo "$said" >&2; exit 2; }
printf '#include <doctest/doctest.h>\n' | "$@" -E -x c++ - > /dev/null 2>&1 && exit 0

if   command -v apt-get > /dev/null; then install="apt-get install -y --no-install-recommends doctest-dev"; before="apt-get update -qq"
elif command -v dnf     > /dev/null; then install="dnf install -y doctest-devel"
elif command -v apk     > /dev/null; then install="apk add doctest-dev"
elif command -v pacman  > /dev/null; then install="pacman -S --noconfirm doctest"
elif command -v brew    > /dev/null; then install="brew install doctest"
else echo "The tests need doctest (https://github.com/doctest/doctest), and there is no package manager here that is known." >&2; exit 2
fi
if [ "$(id -u)" = 0 ] || [ "${install%% *}" = brew ]; then as=
elif sudo -n true 2> /dev/null; then as="sudo -n"
else echo "The tests need doctest: sudo $install" >&2; exit 2
fi
echo "  doctest is missing; this installs it and nothing else: ${as:+$as }$install"
{ [ -z "${before:-}" ] || $as $before; } > /dev/null && $as $install > /dev/null || { echo "could not run: $install" >&2; exit 2; }
