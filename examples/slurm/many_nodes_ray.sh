#!/bin/bash
# Training on the last GPU of the first node, sampling on all other GPUs of the job:
#   sbatch --nodes=4 many_nodes_ray.sh water.xyz run
# The batch system warns three minutes before the time is up; the run then makes a checkpoint, ends
# with exit code 75, and the job is queued again to go on from there.
#SBATCH --job-name=ase-srdft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:4
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

structure=$1
output=$2
shift 2 # what follows is for ase-srdft-train: --xc, --basis, --target-error, ...

gpus=$SLURM_GPUS_ON_NODE
nodes=$SLURM_JOB_NUM_NODES
samplers=$((nodes * gpus - 1))
address=$(hostname --ip-address)
address=${address%% *}:$((20000 + SLURM_JOB_ID % 10000))

# Who reaches a Ray cluster can run anything on it: this one answers to this job alone (from Ray
# 2.52 on).  All nodes must see this directory.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")

# Ray's processes run as long as these two commands.
ray start --head --block --node-ip-address="${address%:*}" --port="${address#*:}" \
    --num-gpus=$((gpus - 1)) --include-dashboard=false --disable-usage-stats >/dev/null &
ray=($!)
trap 'kill "${ray[@]}" 2>/dev/null || true; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
if [ "$nodes" -gt 1 ]; then
    srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$(hostname)" \
        --cpus-per-task="$SLURM_CPUS_PER_TASK" \
        ray start --address="$address" --block --num-gpus="$gpus" >/dev/null &
    ray+=($!)
fi

# Samplers are shared out over the nodes there are, so wait for all of them.
for attempt in {1..60}; do
    there=$(ray status --address="$address" 2>/dev/null | grep -c ' node_') || true
    if [ "$there" -ge "$nodes" ]; then
        break
    elif [ "$attempt" -eq 60 ]; then
        echo "$0: only $there of $nodes nodes have joined the Ray cluster" >&2
        exit 1
    fi
    sleep 5
done

RAY_ADDRESS=$address ase-srdft-train "$structure" -o "$output" --engine ray \
    --samplers "$samplers" --walkers $((4 * samplers)) \
    --trainer-device cuda:$((gpus - 1)) --sampler-device cuda "$@" &
run=$!

# The warning comes to this script alone.  It also interrupts wait, but bash remembers how the run
# ended.
trap 'kill -USR1 "$run" 2>/dev/null || true' USR1
while kill -0 "$run" 2>/dev/null; do
    wait "$run" || true
done
code=0
wait "$run" || code=$?

if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
