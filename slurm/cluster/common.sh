# What up.sh and down.sh share: where the cluster lives, and which of its daemons run. Sourced, not run.
D=${CLUSTER_DIR:-/tmp/mmadfer-slurm}
PATH=$PATH:/usr/sbin:/sbin # where Debian has the daemons, and where users have no PATH to
export SLURM_CONF=$D/slurm.conf

# A process id in a file may be stale, and the number taken by a stranger: ask what it is, too.
runs() { # NAME WORD: the daemon of run/NAME.pid is alive, with WORD in its command line
  [ -s "$D/run/$1.pid" ] && grep -qaF -- "$2" "/proc/$(cat "$D/run/$1.pid")/cmdline" 2>/dev/null
}
