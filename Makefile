# One virtual environment serves every target; it is made on first use from the pinned requirements.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
ENVIRONMENT := .venv/requirements.stamp

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The matrices here are small: a second BLAS or OpenMP thread slows them, many times over where a core is busy.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: reproduce reproduce-long quick test torture lint lab bench readme data

reproduce: $(ENVIRONMENT)  ## rebuild everything from raw data and compare it with what is committed
	rm -rf .venv/committed && mkdir .venv/committed && git archive HEAD data/metrics | tar -x -C .venv/committed
	dvc repro --force
	python -m pnn_utils.report.metrics compare .venv/committed/data/metrics

reproduce-long: data  ## hours: oscillators with a gap on Fashion-MNIST; a stopped run resumes, RETRAIN=--again starts from nothing
	python -m pnn_utils.fashion $(RETRAIN)

quick: data  ## run every notebook at its defaults, each on one core, into a scratch folder
	python -m pnn_utils.quick

test: $(ENVIRONMENT)  ## the tests, and README's tables against data/metrics and the devices
	python -m pytest
	python -m pnn_utils.readme --check

torture: $(ENVIRONMENT)  ## kill, fill the disk, damage files: nothing may be lost; about five minutes
	python tests/torture.py

data: $(ENVIRONMENT)  ## fetch what is missing of the data that the notebooks read
	python -m pnn_utils.datasets.fetch fetch vowels mnist fashion_mnist

lint: $(ENVIRONMENT)
	ruff check .

lab: $(ENVIRONMENT)  ## open the notebooks (the .py files open as notebooks too)
	jupyter lab notebooks

bench: $(ENVIRONMENT)
	python benchmarks/bench.py

readme: $(ENVIRONMENT)  ## write README's tables: results from data/metrics, imperfections from the devices
	python -m pnn_utils.readme

$(ENVIRONMENT): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; none was found on PATH (set PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
