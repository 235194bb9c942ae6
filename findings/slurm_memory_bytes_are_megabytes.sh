#!/bin/sh
# Slurm 26.05.5 (Debian sid slurmctld 26.05.5-1), its own metrics page (MetricsType=metrics/openmetrics).
# slurm_node_memory_bytes is "Total memory in bytes of the node". One would guess that a node of RealMemory=4096, which Slurm
# counts in megabytes, has 4294967296. It has 4096: the number of megabytes under the name of bytes, so a dashboard that
# sets it beside node_exporter's is wrong by 2^20. And a page without series (no job yet) is a 200 of no octet.
. "$(dirname "$0")/lib.sh"
needs sid slurmctld=26.05.5-1
debs patchelf=0.14.3-1+b1
# It starts itself once more by its own path, so the C library is written into it.
"$lab/root/usr/bin/patchelf" --set-interpreter "$lab/root/usr/lib64/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$at/slurm-wlm:$at" "$lab/root/usr/sbin/slurmctld-wlm"
port=$(free_port)
mkdir "$lab/state"
head -c 1024 /dev/urandom > "$lab/key"; chmod 600 "$lab/key"
cat > "$lab/slurm.conf" <<CONF
ClusterName=c
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$(id -un)
SlurmctldPort=$port
AuthType=auth/slurm
CredType=cred/slurm
AuthInfo=use_client_ids
MetricsType=metrics/openmetrics
PluginDir=$at/slurm-wlm
StateSaveLocation=$lab/state
SlurmctldPidFile=$lab/pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
NodeName=n1 NodeAddr=127.0.0.1 CPUs=2 RealMemory=4096
PartitionName=p1 Nodes=n1 Default=YES
CONF
chmod 600 "$lab/slurm.conf"
SLURM_SACK_KEY=$lab/key "$lab/root/usr/sbin/slurmctld-wlm" -D -f "$lab/slurm.conf" > "$lab/log" 2>&1 &
wait_for curl -sf "http://127.0.0.1:$port/metrics/nodes"
curl -s "http://127.0.0.1:$port/metrics/nodes" > "$lab/page"
expect "its help" "Total memory in bytes of the node" "$(sed -n 's/^# HELP slurm_node_memory_bytes //p' "$lab/page")"
expect "its value" 4096 "$(sed -n 's/^slurm_node_memory_bytes{.*} //p' "$lab/page")"
expect "jobs by user, no job" "200, octets: 0" "$(curl -s -o "$lab/none" -w '%{http_code}, octets: %{size_download}' "http://127.0.0.1:$port/metrics/jobs-users-accts")"
finish
