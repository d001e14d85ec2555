#!/bin/bash
# RL on 4 nodes of 8 GPUs:   sbatch configs/recipes/launch/slurm.sh
# Two minutes before its time limit the job saves its last step and queues itself again. A preempted job does the same
# where Slurm has PreemptParameters=send_user_signal; elsewhere --requeue starts it again from its last checkpoint.
# The directory it is submitted from must be on a file system that all nodes share; activate an environment here.
#SBATCH --job-name=unmask
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
stopped=
# To torchrun on every node; each hands it on to its ranks, which save the last complete step.
trap 'stopped=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" --nproc-per-node=8 \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:29500" \
    --max-restarts=3 --shutdown-timeout=110 \
    -m unmask rl configs/rl/gsm8k.toml run.dir=runs/gsm8k --resume &
steps=$!
wait "$steps"
code=$?
if [ -n "$stopped" ]; then
    wait "$steps" # the trap ended the first wait
    scontrol requeue "$SLURM_JOB_ID"
    exit 143
fi
exit "$code"
