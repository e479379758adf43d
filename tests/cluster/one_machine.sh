#!/bin/bash
# A SLURM cluster of this one machine with two stand-ins for GPUs, for tests/cluster. As root, on Debian:
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#   bash tests/cluster/one_machine.sh start      (or stop)
# It writes /etc/slurm, where jobs look for it too: the executor plugin takes SLURM_CONF out of their environment.
set -euo pipefail
CONF=/etc/slurm STATE=/var/lib/one-machine
MARK="# written by one_machine.sh"

require_ours() {
    if [ -e $CONF/slurm.conf ] && ! grep -qx "$MARK" $CONF/slurm.conf; then
        echo "$CONF/slurm.conf is another cluster's: nothing done" >&2
        exit 2
    fi
}

start() {
    require_ours
    mkdir -p $CONF $STATE/ctld $STATE/slurmd /run/munge /var/log/munge
    local name memory_mb
    name=$(hostname -s)
    memory_mb=$(free -m | awk '/^Mem:/ {print int($2 * 0.8)}')
    cat > $CONF/slurm.conf <<END
$MARK
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=$STATE/ctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/ctld.log
SlurmdLogFile=$STATE/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
GresTypes=gpu
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory_mb Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    # any two character devices will do: nothing opens them
    printf 'NodeName=%s Name=gpu File=%s Count=1\n' "$name" /dev/null "$name" /dev/zero > $CONF/gres.conf
    chown munge:munge /run/munge /var/log/munge /var/lib/munge /etc/munge /etc/munge/munge.key
    if ! pgrep -x munged > /dev/null; then
        runuser -u munge -- /usr/sbin/munged
        touch $STATE/munged  # it is ours to end
    fi
    slurmctld
    slurmd
    for _ in $(seq 30); do
        sinfo --noheader --states idle | grep -q . && break
        sleep 1
    done
    sinfo
}

stop() {
    require_ours
    scontrol shutdown || true
    [ ! -e $STATE/munged ] || pkill -x munged || true
    rm -rf $STATE $CONF/slurm.conf $CONF/gres.conf
}

case "${1:-}" in
    start | stop) "$1" ;;
    *) echo "usage: one_machine.sh start|stop" >&2; exit 2 ;;
esac
