#!/usr/bin/env bash
# Installs the servers of other projects that tests talk to, into .peers: `install.sh ftp`, `install.sh hdfs`, or both.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .peers

need() {
  command -v "$1" >/dev/null || { echo "$1 is missing: the tests of the monitor need the package $2" >&2; exit 1; }
}

# A directory appears under its name only when it is whole.
install_ftp() {
  [ -d .peers/ftp ] && return
  need python3 'python3 with python3-venv'
  rm -rf .peers/ftp.part
  python3 -m venv .peers/ftp.part
  .peers/ftp.part/bin/python -m pip install --quiet --disable-pip-version-check pyftpdlib==2.0.1
  mv .peers/ftp.part .peers/ftp
}

install_hdfs() {
  [ -d .peers/hdfs ] && return
  need java 'default-jdk-headless'
  need mvn maven
  rm -rf .peers/hdfs.part
  mvn --quiet --batch-mode --file test/peers/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$PWD/.peers/hdfs.part" >&2
  mv .peers/hdfs.part .peers/hdfs
}

for peer in "${@:-ftp hdfs}"; do
  for one in $peer; do
    "install_$one"
  done
done
