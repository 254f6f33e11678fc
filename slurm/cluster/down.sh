#!/usr/bin/env bash
# Ends the cluster that up.sh started, with its jobs, and nothing else. With --wipe its directory goes, too.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ -f "$D/slurm.conf" ] || exit 0 # not a cluster's directory, or gone already

main() {
  stop_slurmds
  end_tasks
  stop slurmctld slurmctld
  stop slurmdbd slurmdbd
  stop mariadb "$D/db"
  stop munged munged
  [ "${1:-}" != --wipe ] || rm -rf "$D"
}

# First, so that no job is started while the tasks of others are being ended.
stop_slurmds() {
  local file node
  for file in "$D"/run/slurmd.*.pid; do
    [ -e "$file" ] || continue
    node=${file##*/slurmd.} node=${node%.pid}
    stop "slurmd.$node" "$node"
  done
}

# Processes of this cluster's jobs, and the slurmstepd above them, wherever a lost slurmd has left them. Those of users who
# merely talk to the cluster have its SLURM_CONF as well, and in salloc a job, but no node.
end_tasks() {
  local folder
  for folder in /proc/[0-9]*; do
    is_task "$folder" && kill -9 "${folder#/proc/}"
  done 2>/dev/null
  return 0
}

is_task() { # a folder of /proc
  grep -qzxF "SLURM_CONF=$D/slurm.conf" "$1/environ" 2>/dev/null || return 1
  grep -qz '^SLURMD_NODENAME=' "$1/environ" || grep -qa '^slurmstepd' "$1/cmdline"
}

stop() { # NAME WORD, as `runs`
  local pid
  if runs "$1" "$2"; then
    pid=$(cat "$D/run/$1.pid")
    kill "$pid"
    gone "$pid" || { kill -9 "$pid" && gone "$pid"; }
  fi
  rm -f "$D/run/$1.pid"
}

# A dead process that its parent has not asked after yet has no command line.
gone() {
  local end=$((SECONDS + 10))
  while grep -qa . "/proc/$1/cmdline" 2>/dev/null; do
    ((SECONDS < end)) || return 1
    sleep .05
  done
}

main "$@"
