#!/usr/bin/env bash
# Installs what some tests start and compare with (a SLURM cluster, ffmpeg, Chromium), where it is missing and this is root on Debian or
# Ubuntu; else says what is missing, and fails.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
PACKAGES=(munge slurmctld slurmd slurm-client slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core ffmpeg chromium)

missing() {
  local program
  for program in munged slurmctld slurmd sbatch slurmdbd mariadbd mariadb-install-db ffmpeg chromium; do
    command -v "$program" >/dev/null || echo "$program"
  done
}

apt() { # no waiting for a network that is not there
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20 "$@" >/dev/null 2>&1
}

install() {
  apt install -y --no-install-recommends "${PACKAGES[@]}"
}

[ -n "$(missing)" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing for the tests: ${PACKAGES[*]}"
  install || { apt update && install; } || true
fi
[ -z "$(missing)" ] || {
  echo "Some tests are skipped here, for want of: $(missing | paste -sd ' '). On Debian and Ubuntu, as root:" \
    "apt-get install --no-install-recommends ${PACKAGES[*]}" >&2
  exit 1
}
