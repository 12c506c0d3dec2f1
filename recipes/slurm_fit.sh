#!/usr/bin/env bash
# Count preference triples on a Slurm cluster: an array of tasks, one shard and one GPU each.
#
#   sbatch --array=0-7 recipes/slurm_fit.sh triples.jsonl counts --preset gemma-2-9b
#   dspa merge counts --out map                                   # when all are there; no GPU
#
# The first argument is what `dspa fit` reads, the second the folder of the shards, on a disk that
# all nodes see; the rest goes to `dspa fit`. Tasks may run in any order, be requeued, or be
# submitted again one by one: then say how many shards there are in all, since Slurm only knows the
# tasks of this submission:
#
#   DSPA_SHARDS=8 sbatch --array=2,5 recipes/slurm_fit.sh triples.jsonl counts --preset gemma-2-9b
#
# Partition, account, time and the way to the environment are each cluster's own; options of sbatch
# go before the script's name and win over the lines below.
#SBATCH --job-name=dspa-fit
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=dspa-fit-%A_%a.log
#SBATCH --requeue
set -euo pipefail

if (($# < 2)); then
  echo "usage: sbatch --array=0-7 $0 SOURCE COUNTS [options of dspa fit]" >&2
  exit 2
fi
source=$1 counts=$2
shift 2

: "${SLURM_ARRAY_TASK_ID:?is not set: submit this script with sbatch --array=0-7}"
shards=${DSPA_SHARDS:-${SLURM_ARRAY_TASK_COUNT:?is not set: give DSPA_SHARDS, the number of shards}}

# An array that starts above 0 or leaves numbers out has fewer tasks than there are shards.
if [[ -z ${DSPA_SHARDS:-} && ${SLURM_ARRAY_TASK_MIN:-0}-${SLURM_ARRAY_TASK_MAX:-$((shards - 1))} != 0-$((shards - 1)) ]]; then
  echo "--array=${SLURM_ARRAY_TASK_MIN}-${SLURM_ARRAY_TASK_MAX} has $shards task(s): use --array=0-N, or set DSPA_SHARDS to the number of all shards" >&2
  exit 2
fi

folder=$counts/$(printf 'shard-%05d-of-%05d' "$SLURM_ARRAY_TASK_ID" "$shards")
if [[ -e $folder/counts.json ]]; then
  echo "$folder is there already"
  exit 0
fi

# DSPA_ENV: a virtual environment's folder; without it, `dspa` is taken from the PATH.
if [[ -n ${DSPA_ENV:-} ]]; then
  # shellcheck source=/dev/null
  . "$DSPA_ENV/bin/activate"
fi
export TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# A task that is cut off goes on from its last finished batches when it runs again.
exec dspa fit "$source" --out "$counts" --shards "$shards" --shard "$SLURM_ARRAY_TASK_ID" \
  --checkpoint "$counts/unfinished" "$@"
