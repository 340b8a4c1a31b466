#!/bin/sh
# Builds everything but the N-API bindings with g++ and runs the C++ tests: all of them under the address and
# undefined sanitizers, those of shared state under the thread sanitizer. Ends non-zero on the first failure.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

sources=$(grep -v -e '_binding\.cc$' -e '^napi_support\.cc$' -e '^addon\.cc$' sources.txt)
flags="-std=c++20 -g1 -Wall -Wextra -Wpedantic -Werror -fno-exceptions -fno-rtti -ffp-contract=off -pthread"

# shellcheck disable=SC2086 # lists of words
build() {
  name=$1
  shift
  mkdir "$out/$name.o"
  # As many compilers at a time as there are processors; names of sources are unique without their folders.
  printf '%s\n' $sources test/*.cc | xargs -P "$(nproc 2>/dev/null || echo 2)" -I{} sh -c \
    '"$0" "$@" -c "{}" -o "'"$out/$name.o"'/$(basename "{}" .cc).o" || exit 255' ${CXX:-g++} $flags "$@"
  ${CXX:-g++} $flags "$@" "$out/$name.o"/*.o -o "$out/$name"
}

build address -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
"$out/address"
build thread -O1 -fsanitize=thread
"$out/thread" slab mapped_file_guard table_build_threads table_race
