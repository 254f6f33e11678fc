#!/usr/bin/env bash
# Starts a private SLURM cluster on this machine, or finds it up; README.md beside it says how to use it.
#
#   eval "$(slurm/cluster/up.sh)"
#
# No systemd, no root, nothing under /etc: all is in one directory, and ends with down.sh. Run again, it starts only what
# is missing. Several clusters may run at once, each with a directory and 900 ports of its own.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/common.sh"
NODES=${CLUSTER_NODES:-4}
PORT=${CLUSTER_PORT:-17817} # slurmctld; slurmdbd + 1, slurmd of node k + 10 + k, srun + 100 to + 899
ACCT=${CLUSTER_ACCT:-1}     # 0: no accounting, so no database either
ME=$(id -un)
HOST=$(uname -n) HOST=${HOST%%.*}
FIRST=127.0.0.11 LAST=127.0.0.$((10 + NODES))

fail() {
  echo "up.sh: $*" >&2
  exit 1
}

main() {
  check
  find_address
  mkdir -p "$D"/{run,log,state,spool,dev,db}
  # In a folder that all may write to, somebody else may have made it first.
  { [ -O "$D" ] && [ ! -L "$D" ]; } || fail "$D belongs to somebody else, or is a link: choose another CLUSTER_DIR"
  chmod 700 "$D/db"       # the database knows no passwords
  chmod 755 "$D" "$D/run" # munged wants a socket that all may reach, and refuses one in a hidden place
  write_slurm_conf
  start_munge
  [ "$ACCT" = 0 ] || start_accounting
  start_slurm
  printf 'export SLURM_CONF=%q\n' "$D/slurm.conf"
  [ "$ACCT" != 0 ] || printf 'case $PATH in %q:*) ;; *) export PATH=%q:$PATH ;; esac\n' "$HERE"/no-accounting{,}
}

check() {
  local programs="munged slurmctld slurmd sbatch" program
  [ "$ACCT" = 0 ] || programs+=" slurmdbd mariadbd mariadb-install-db"
  for program in $programs; do
    command -v "$program" >/dev/null || fail "$program is missing; on Debian and Ubuntu: sudo tests/packages.sh"
  done
  [ "${#D}" -le 80 ] || fail "CLUSTER_DIR=$D is too long: names of unix sockets end at 107 characters"
  ((NODES >= 1 && NODES <= 80)) || fail "CLUSTER_NODES=$NODES must be 1 to 80"
}

# The address all daemons listen on and talk to, and how to keep them on it.
find_address() {
  # Where 127.0.0.1 is the machine's only address, as in a container without a network, glibc resolves no name at all
  # for SLURM (AI_ADDRCONFIG does not count it). A second loopback address, given by root, does count.
  getent ahostsv4 127.0.0.1 >/dev/null || ip addr add 127.0.0.2/8 dev lo
  ADDRESS=$(getent ahostsv4 "$(uname -n)" | awk '{print $1; exit}') || true
  # NoInAddrAny binds the daemons to what the machine's own name resolves to. Where that is loopback nobody outside can
  # reach them; elsewhere they would not hear 127.0.0.1, so they listen everywhere, guarded by this cluster's munge key.
  BIND=NoInAddrAny,NoCtldInAddrAny
  [ "$ADDRESS" = 127.0.0.1 ] || ADDRESS=127.0.0.1 BIND=
}

write_slurm_conf() {
  local gpu
  # A GPU must be a character device, and nobody asks which.
  for gpu in 0 1 2 3; do ln -sfn /dev/null "$D/dev/nvidia$gpu"; done
  echo "NodeName=127.0.0.[11-${LAST##*.}] Name=gpu File=$D/dev/nvidia[0-3]" >"$D/gres.conf"
  # Never used, but slurmd looks for the version by itself, and stops where /sys/fs/cgroup is missing or v2 without systemd.
  echo CgroupPlugin=cgroup/v1 >"$D/cgroup.conf"
  { identity; scheduling; accounting; nodes; } >"$D/slurm.conf.new"
  mv "$D/slurm.conf.new" "$D/slurm.conf" # at once: running daemons may be reading it
}

identity() {
  cat <<CONF
ClusterName=loop
SlurmctldHost=$HOST($ADDRESS)
SlurmUser=$ME
SlurmdUser=$ME
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 10))
SrunPortRange=$((PORT + 100))-$((PORT + 899))
${BIND:+CommunicationParameters=$BIND}
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a job queued again waits until its old credentials are void, 120 s by default.
AuthInfo=socket=$D/run/munge.sock,cred_expire=5
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
MailProg=/bin/true
# Nothing that needs cgroups or root.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
PropagateResourceLimits=NONE
SwitchType=switch/none
MpiDefault=none
CONF
}

scheduling() {
  cat <<CONF
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
# The nodes have as many cores as nodes below says, not as many as this machine.
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Else a preempted job is ended without the signal it asked for with --signal.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillOnBadExit=1
# Shorter than on real clusters: a lost node is noticed in seconds, and comes back by itself.
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
ReturnToService=2
# How long squeue knows ended jobs.
MinJobAge=3600
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.log
CONF
}

accounting() {
  if [ "$ACCT" = 0 ]; then
    echo AccountingStorageType=accounting_storage/none
    return
  fi
  cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ADDRESS
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$D/run/munge.sock
CONF
}

nodes() {
  # Named by loopback addresses, so that ranks which meet at the name of the first node find it.
  cat <<CONF
NodeName=127.0.0.[${FIRST##*.}-${LAST##*.}] NodeAddr=$ADDRESS NodeHostname=$HOST Port=[$((PORT + 11))-$((PORT + 10 + NODES))] CPUs=64 RealMemory=1000000 Gres=gpu:4 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=preempt Nodes=ALL MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
CONF
}

start_munge() {
  [ -s "$D/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$D/munge.key")
  runs munged munged || {
    rm -f "$D"/run/munge.sock*
    daemon munged --socket="$D/run/munge.sock" --key-file="$D/munge.key" --pid-file="$D/run/munged.pid" \
      --log-file="$D/log/munged.log" --seed-file="$D/munge.seed"
  }
  wait_for munge -S "$D/run/munge.sock" -n
}

start_accounting() {
  local socket=$D/db/mysql.sock
  write_slurmdbd_conf
  if [ ! -e "$D/db/.made" ]; then
    mariadb-install-db --no-defaults --datadir="$D/db" --user="$ME" --auth-root-authentication-method=normal \
      --skip-test-db >"$D/log/install-db.log" 2>&1 || fail "mariadb-install-db failed; see $D/log/install-db.log"
    touch "$D/db/.made"
  fi
  # Reached by its socket only, in a directory that only this user may enter, so without passwords; what a power cut loses is no loss.
  runs mariadb "$D/db" || daemon_here mariadbd --no-defaults --datadir="$D/db" --user="$ME" --socket="$socket" \
    --pid-file="$D/run/mariadb.pid" --skip-networking --skip-grant-tables --secure-file-priv="$D/db" --innodb-flush-log-at-trx-commit=0 \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M
  wait_for runs mariadb "$D/db"
  wait_for test -S "$socket"
  export MYSQL_UNIX_PORT=$socket # slurmdbd.conf has no word for it
  runs slurmdbd slurmdbd || daemon slurmdbd
  wait_for sacctmgr -n show cluster
  [ -n "$(sacctmgr -nP show cluster loop format=cluster)" ] || sacctmgr -iQ add cluster loop >>"$D/log/start.log" 2>&1
}

write_slurmdbd_conf() {
  (umask 077 && cat >"$D/slurmdbd.conf") <<CONF # slurmdbd refuses one that others may read
DbdHost=$HOST
DbdAddr=$ADDRESS
DbdPort=$((PORT + 1))
${BIND:+CommunicationParameters=NoInAddrAny}
SlurmUser=$ME
AuthType=auth/munge
AuthInfo=socket=$D/run/munge.sock
PidFile=$D/run/slurmdbd.pid
LogFile=$D/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$ME
StorageLoc=slurm_acct_db
CONF
}

start_slurm() {
  local k node
  runs slurmctld slurmctld || daemon slurmctld
  wait_for scontrol show node
  for ((k = 1; k <= NODES; k++)); do
    node=127.0.0.$((10 + k))
    mkdir -p "$D/spool/$node"
    runs "slurmd.$node" "$node" || daemon slurmd -N "$node"
  done
  for node in $(sinfo -hN -p gpu -t drain,down -o %N); do
    scontrol update nodename="$node" state=resume 2>/dev/null || true # it may have come back by itself
  done
  wait_for all_ready
}

# A star behind the state tells of a node that does not answer.
all_ready() { [ "$(sinfo -hN -p gpu -o %t | grep -cE '^(idle|mix|alloc|comp)$')" = "$NODES" ]; }

# Daemons must not hold our output open, or $(up.sh) never returns; nor belong to our terminal, or ctrl-C ends them.
daemon() { setsid "$@" </dev/null >>"$D/log/start.log" 2>&1 || fail "$1 does not start; see $D/log"; }
daemon_here() { setsid "$@" </dev/null >>"$D/log/start.log" 2>&1 & } # for those that do not go to the background

wait_for() {
  local end=$((SECONDS + 30)) said
  while ((SECONDS < end)); do
    said=$("$@" 2>&1) && return
    sleep .1
  done
  fail "gave up on: $*: ${said:0:400}; see $D/log"
}

main
