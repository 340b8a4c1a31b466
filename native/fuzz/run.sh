#!/bin/bash
# Builds every native/fuzz/NAME_fuzz.cc with libFuzzer and the address and undefined sanitizers, and runs each for
# SECONDS (20 when not given) over a copy of native/fuzz/corpus/NAME. Ends non-zero on the first finding, and keeps
# the input that led to it. An own compiler is given by CXX, some of the targets by name:
#
#   native/fuzz/run.sh [SECONDS [NAME...]]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
shift || true

findCompiler() {
  local candidate
  for candidate in ${CXX:-} clang++ clang++-{22..14}; do
    if command -v "$candidate" > /dev/null && "$candidate" --version | grep -q clang; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

if ! compiler=$(findCompiler); then
  echo "clang++ is missing: libFuzzer comes with it. On Debian and Ubuntu: apt-get install clang" >&2
  exit 1
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags=(-std=c++20 -g1 -O1 -Wall -Wextra -fno-exceptions -fno-rtti -ffp-contract=off -pthread
  -fno-omit-frame-pointer -fno-sanitize-recover=all)

# As many compilers at a time as there are processors; names of sources are unique without their folders.
mkdir "$out/objects"
grep -v -e '_binding\.cc$' -e '^napi_support\.cc$' -e '^addon\.cc$' sources.txt |
  xargs -P "$(nproc 2> /dev/null || echo 2)" -I{} bash -c \
    '"$0" "${@:2}" -c "{}" -o "$1/$(basename "{}" .cc).o" || exit 255' \
    "$compiler" "$out/objects" "${flags[@]}" -fsanitize=fuzzer-no-link,address,undefined
objects=("$out"/objects/*.o)

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for source in fuzz/*_fuzz.cc; do
    names+=("$(basename "$source" _fuzz.cc)")
  done
fi

for name in "${names[@]}"; do
  "$compiler" "${flags[@]}" -fsanitize=fuzzer,address,undefined "fuzz/${name}_fuzz.cc" "${objects[@]}" -o "$out/$name"
  mkdir "$out/corpus-$name"
  if [ -d "fuzz/corpus/$name" ]; then cp -r "fuzz/corpus/$name/." "$out/corpus-$name"; fi
  echo "== $name: $seconds s"
  findings=${FINDINGS:-${TMPDIR:-/tmp}}/onnx-serving-fuzz-$name-
  if ! "$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=32768 -print_final_stats=1 \
    -verbosity=0 -print_funcs=0 -artifact_prefix="$findings" "$out/corpus-$name"; then
    echo "$name: a finding; its input is kept as $findings*" >&2
    exit 1
  fi
done
