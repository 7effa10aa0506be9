#!/bin/bash
# Everything on a borrowed GPU machine without a network, in steps that each end within minutes:
#   bash benchmarks/gpu.sh install   wheels of .whl*/ into /tmp/site (what the machine lacks)
#   bash benchmarks/gpu.sh model     pieces .piece-*/ joined, checked, unpacked
#   bash benchmarks/gpu.sh test      device tests
#   bash benchmarks/gpu.sh train     the SAEs of results/smollm2-135m
#   bash benchmarks/gpu.sh score     IOI at both sites and RAVEL, three at a time
#   bash benchmarks/gpu.sh bench     where S, IO and position act; tables real and real-evaluation; two precisions
# A rehearsal on a CPU: DEVICE=cpu MODEL=demo SCALE=.001 WIDTH=64 WORKERS=1 N=20 END=blocks.1.hook_resid_pre
# SUBJECT=blocks.1.hook_resid_pre CITY=blocks.2.hook_resid_pre ONLY='0 14 16 19'.
# What is to be kept goes to $OUT, one log a step.
set -eu -o pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} MODEL=${MODEL:-smollm2-135m} SCALE=${SCALE:-1} WIDTH=${WIDTH:-4608}
WORK=${WORK:-/tmp/saebench-gpu} PYTHON=${PYTHON:-python3} WORKERS=${WORKERS:-4}
OUT=${OUT:-$WORK/out}
export PYTHONPATH=$PWD:/tmp/site HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export SAEBENCH_CACHE=$WORK/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-3} WANDB_MODE=disabled
SHA=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
end=${END:-blocks.26.hook_resid_pre} subject=${SUBJECT:-blocks.14.hook_resid_pre} city=${CITY:-blocks.10.hook_resid_pre}
mkdir -p "$OUT" "$WORK"

step() { # the rest of the line, timed and logged; a failure does not stop what comes after
  local name=$1 started=$SECONDS status=0
  shift
  "$@" >"$OUT/$name.log" 2>&1 || status=$?
  echo "$name: exit $status after $((SECONDS - started)) s"
  [ $status = 0 ] || tail -n 15 "$OUT/$name.log"
}
python() { $PYTHON -W ignore "$@"; }
evaluate() { # SITE TASK SAES…
  local site=$1 task=$2
  shift 2
  python -m saebench evaluate "$@" control:{supervised,identity,pca:32,mean,source-patch,no-edit} \
    control:random:{16,64}:"$WIDTH" --task "$task" --model "$MODEL" --site "$site" \
    --device "$DEVICE" --out "$WORK/results"
}

case $1 in
install)
  shopt -s nullglob
  wheels=(.whl*/*.whl)
  [ ${#wheels[@]} = 0 ] || $PYTHON -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target /tmp/site "${wheels[@]}" 2>&1 | grep -v WARNING || true
  echo "${#wheels[@]} wheels in /tmp/site"
  ;;
model)
  file=$WORK/SmolLM2-135M-Instruct.Q4_1.gguf
  cat .piece-*/part.* >"$file"
  echo "$SHA  $file" | sha256sum -c
  step unpack python -c "from pathlib import Path; from saebench.models.gguf import unpack; print(unpack(Path('$file')))"
  step identity python -c "
from saebench.models.loading import load_model
import torch
m = load_model('smollm2-135m', device='$DEVICE')
print(m.sha256, torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')
print(m.tokens('When Mary and John went to the park, John gave a book to'))"
  cat "$OUT/identity.log"
  ;;
test)
  step device-tests python -m pytest -q -p no:cacheprovider tests/models/test_device.py tests/patching
  tail -n 3 "$OUT/device-tests.log"
  ;;
train)
  docs=${DOCS:-.docs/docs.parquet}
  [ -f "$docs" ] || { mkdir -p .docs && python -m saebench.studies.real.docs_text "$docs"; }
  cp "$docs" "$WORK/docs.parquet"
  (cd "$WORK" && step train python -m saebench.studies.real.saes --model "$MODEL" --docs docs.parquet \
    --out "$WORK/saes" --device "$DEVICE" --workers "$WORKERS" --scale "$SCALE" --width "$WIDTH" \
    --hooks "$end" "$subject" "$city" ${ONLY:+--only $ONLY})
  tail -n 25 "$OUT/train.log"
  cp "$WORK/saes/saes.json" "$OUT/"
  ;;
score)
  root=$WORK/saes/$MODEL
  step score-end evaluate "$end@end" ioi "$root/$end@end"/* "$root/$end"/*-docs-* &
  step score-s2 evaluate "$subject@s2" ioi "$root/$subject@s2"/* &
  step score-ravel evaluate "$city@entity" ravel "$root/$city"/*-ravel+docs-* control:das &
  wait
  # in pieces that a limit of 16 MiB a file lets through: cat results.tar.gz.* | tar xz
  tar -C "$WORK" -cz results | split -b 15000000 -d - "$OUT/results.tar.gz."
  ls -la "$OUT"
  ;;
bench)
  step sites python -m saebench.studies.real.sites --model "$MODEL" --device "$DEVICE" --n "${N:-400}" --out "$OUT/sites"
  step real python -m benchmarks real real-evaluation --model "$MODEL" --device "$DEVICE" --out "$OUT/benchmarks"
  step bfloat16 python -m saebench evaluate control:supervised control:identity --task ioi --model "$MODEL" \
    --device "$DEVICE" --dtype bfloat16 --out "$WORK/bfloat16"
  tar -C "$OUT" -czf "$OUT/bench.tar.gz" sites benchmarks
  tar -C "$WORK" -czf "$OUT/bfloat16.tar.gz" bfloat16
  rm -rf "$OUT/sites" "$OUT/benchmarks"
  ;;
*)
  echo "Unknown step $1" >&2
  exit 2
  ;;
esac
