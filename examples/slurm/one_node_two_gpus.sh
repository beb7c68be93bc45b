#!/bin/bash
# Training on one GPU of a node, sampling on the other:
#   sbatch one_node_two_gpus.sh water.xyz run
# The batch system warns three minutes before the time is up; the run then makes a checkpoint, ends
# with exit code 75, and the job is queued again to go on from there.
#SBATCH --job-name=ase-srdft
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:2
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

structure=$1
output=$2
shift 2 # what follows is for ase-srdft-train: --xc, --basis, --target-error, ...

srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ase-srdft-train "$structure" -o "$output" --engine local \
    --trainer-device cuda:0 --sampler-device cuda:1 "$@" &
step=$!

# The warning comes to this script alone; srun hands it on to the run.  It also interrupts wait, but
# bash remembers how the step ended.
trap 'kill -USR1 "$step" 2>/dev/null || true' USR1
while kill -0 "$step" 2>/dev/null; do
    wait "$step" || true
done
code=0
wait "$step" || code=$?

if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
