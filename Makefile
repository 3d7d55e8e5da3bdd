# One virtual environment serves every target; it is made on first use from the pinned requirements.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
ENVIRONMENT := .venv/requirements.stamp

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The matrices here are small: a second BLAS or OpenMP thread slows them, many times over where a core is busy.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help reproduce reproduce-long quick searches test torture lint lab bench readme data wheels

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: $(ENVIRONMENT)  ## everything from raw data and the weights of long trainings to figures, then every number compared with the committed one; an hour and a half
	rm -rf .venv/committed && mkdir .venv/committed && git archive HEAD data/metrics | tar -x -C .venv/committed
	rm -f data/metrics/*.json  # what cannot be made must not look reproduced
	dvc repro --force --keep-going || echo "what is named above could not be made; all else was"
	python .ci/reproduced.py .venv/committed/data/metrics

reproduce-long: data  ## hours: what 05 to 09 take from committed weights and tables is made again; a stopped run resumes
	python -m pnn_utils.report.run notebooks/0[5-9]_*.py --set retrain=true

searches: data  ## hours: the searches for learning rates again, whose results are committed in data/searches
	python -m pnn_utils.report.run notebooks/0[2-8]_*.py notebooks/1[03]_*.py --set search_again=true

test: $(ENVIRONMENT)  ## the tests, and README's tables against data/metrics and the devices; about 3 min
	python -m pytest -n 2 --dist loadfile
	python .ci/readme.py --check

quick: data  ## every notebook at its small defaults, each on one core, touching nothing; about 5 min
	python benchmarks/quick.py

lab: $(ENVIRONMENT)  ## JupyterLab; the .py files open as notebooks too
	jupyter lab notebooks

data: $(ENVIRONMENT)  ## fetch what is missing of the data that the notebooks read
	python -m pnn_utils.datasets.fetch vowels mnist fashion_mnist
	python -m pnn_utils.datasets.fetch authors_circuit || echo "without the recordings 13_real_circuit cannot be run; all else can"

bench: $(ENVIRONMENT)  ## timings; fails where one misses what is promised
	python benchmarks/bench.py

torture: $(ENVIRONMENT)  ## kills, full disks, damaged files, failing drivers: nothing may be lost; about 5 min
	python tests/torture.py

lint: $(ENVIRONMENT)  ## style
	ruff check .

readme: $(ENVIRONMENT)  ## write README's tables from data/metrics and the devices' parameters
	python .ci/readme.py

wheels: $(ENVIRONMENT)  ## is there a wheel of every pinned package for each Python and platform? asks the registry, installs nothing
	python .ci/wheels.py

$(ENVIRONMENT): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none was found on PATH (set PYTHON=...)"; exit 1; }
	@echo "First run: $(PYTHON) installs the packages of requirements.txt into .venv, once: one to five minutes, 1.5 GB"
	@echo "(with the CUDA libraries of pip's default torch, where PyTorch's own index is out of reach: 6 GB)."
	$(PYTHON) -m venv .venv
	.venv/bin/python .ci/cpu_torch.py
	.venv/bin/python -m pip install --progress-bar on -r requirements.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
