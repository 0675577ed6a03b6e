#!/bin/sh
# Installs what the tests of emulated boards need: qemu-system-arm, qemu-user for aarch64, and gcc with libc headers
# (exported C must build with a plain gcc too). Without root or apt it says so and succeeds, unless REQUIRE_EMULATORS=1.
set -u
packages="qemu-system-arm qemu-user gcc libc6-dev"

present() {
    command -v qemu-system-arm >/dev/null && command -v qemu-aarch64 >/dev/null && command -v gcc >/dev/null &&
        echo '#include <string.h>' | gcc -std=c11 -fsyntax-only -x c - 2>/dev/null
}

give_up() {
    echo "############################################################################" >&2
    echo "## EMULATORS ARE MISSING: $1" >&2
    echo "## Tests of emulated boards cannot run. Install by hand: $packages" >&2
    echo "############################################################################" >&2
    [ "${REQUIRE_EMULATORS:-0}" = 1 ] && exit 1
    exit 0
}

if present; then
    echo "emulators: $(qemu-system-arm --version | head -n 1); $(gcc --version | head -n 1)"
    exit 0
fi
command -v apt-get >/dev/null || give_up "there is no apt-get"
[ "$(id -u)" = 0 ] || give_up "apt-get needs root"

export DEBIAN_FRONTEND=noninteractive
# The lists may be absent (a fresh image) or stale; the update is only worth its time then.
# shellcheck disable=SC2086
apt-get install -qy --no-install-recommends $packages ||
    { apt-get update -q && apt-get install -qy --no-install-recommends $packages; } ||
    give_up "apt-get failed"
present || give_up "they were installed, and do not run"
echo "emulators: $(qemu-system-arm --version | head -n 1); $(gcc --version | head -n 1)"
