#!/bin/sh
# Starts SLURM on this machine alone, from Debian's packages, to try the profile: one node, one partition, all cores.
# Run as root: apt-get install slurm-wlm munge && sh experiments/slurm/one_node.sh start|stop
set -eu
# State, logs and process ids.
folder="${SLURM_FOLDER:-/run/oshp-slurm}"
# Steps of a job look for it here, whatever the environment says.
conf=/etc/slurm/slurm.conf

start() {
  mkdir -p "$folder/state" "$folder/spool" /run/munge /etc/munge "$(dirname "$conf")"
  chown munge: /run/munge /etc/munge
  [ -f /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none; }
  chown munge: /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  pgrep -x munged > /dev/null || su -s /bin/sh munge -c /usr/sbin/munged
  memory=$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
  # Without cgroups, jobs are found by their process group: containers often have no cgroups of their own.
  cat > "$conf" << END
ClusterName=oshp
SlurmctldHost=$(hostname -s)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MpiDefault=none
NodeName=$(hostname -s) CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
  slurmctld
  slurmd
  sleep 3
  sinfo
}

stop() {
  for name in slurmd slurmctld; do
    [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" || true
  done
}

"${1:-start}"
