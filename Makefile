.DEFAULT_GOAL := help
.PHONY: help demo extras test test-all check lint bench bench-gpu parity release torture

python := .venv/bin/python
installed := .venv/.installed
runs := .venv/.runs

help:  ## says what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

demo: $(runs)  ## draws shapes, learns them, and writes runs/demo/report.html
	$(python) -m maskrcnn demo

# A worker takes a core and 3 GB. One that is done takes tests that wait for another.
WORKERS ?= 2
parallel := -n $(WORKERS) --dist worksteal

test: $(installed)  ## runs the tests, without the longer forms of some
	$(python) -m pytest -q $(parallel) --durations=20

test-all: $(installed)  ## runs the tests and adds the longer forms of some, marked exhaustive
	@echo "make test, and the longer forms of some tests:"
	@$(python) -m pytest -q --collect-only -m exhaustive tests | grep ::
	$(python) -m pytest -q $(parallel) --durations=20 -m ""

extras: .venv/.extras  ## installs Ray and Parquet too, without which their tests are skipped
.venv/.extras: $(installed)
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[ray,parquet]'
	@touch $@

FOLDER ?= tests
check: $(installed) lint  ## lints, and runs the fast tests of one folder: make check FOLDER=tests/ops
	$(python) -m pytest -q $(parallel) --durations=5 --fast $(FOLDER)

lint: $(installed)  ## checks style, format and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

DATA ?= datasets/shapes
CONFIG ?= demo
BATCH ?= 1
bench: .venv-peers/.installed  ## times us beside torchvision and others: make bench DATA=DIR CONFIG=RECIPE BATCH=N
	@test -d $(DATA) || .venv-peers/bin/python -m maskrcnn data shapes $(DATA)
	for verb in train predict eval; do \
	  .venv-peers/bin/python -m maskrcnn bench $$verb $(CONFIG) data.dataset_dir=$(DATA) --batch $(BATCH) --repeats 5 \
	  || exit; \
	done
	.venv-peers/bin/python benchmarks/photo.py $$(ls $(DATA)/val2017/* | head -n 1) --config $(CONFIG)
	.venv-peers/bin/python benchmarks/loading.py --data $(DATA)
	for noun in masks annotations evaluation; do .venv-peers/bin/python benchmarks/$$noun.py || exit; done

# With the Python that has torch for the GPU; the package itself is taken from src/.
PYTHON ?= python3
bench-gpu:  ## measures everything on a GPU, in pieces: make bench-gpu DATA=DIR PYTHON=python3
	$(PYTHON) benchmarks/gpu.py --data $(DATA)

parity: .venv-peers/.installed  ## compares us with torchvision and with stored numbers of the others, stage by stage
	.venv-peers/bin/python -m pytest -q tests/parity tests/ops/test_roi_align.py --durations=10

REPEATS ?= 200
torture: $(installed)  ## kills, stops, damages and bombs, hours of it, what must survive: make torture REPEATS=200
	$(python) tools/torture.py kills --repeats $(REPEATS) --upload
	$(python) tools/torture.py stops --repeats $(REPEATS)
	$(python) tools/torture.py stops --repeats $(REPEATS) --processes 2 --launcher mpirun
	for name in checkpoints weights bombs; do $(python) tools/torture_$$name.py || exit; done
	$(python) -m pytest -q -m exhaustive tests/end_to_end/test_elastic.py

release: $(installed)  ## builds what is published into dist/ and tries it: make release TAG=v1.2.3
	$(python) tools/release.py $(if $(TAG),--tag '$(TAG)')

# Its torch is the one that this torchvision wants, not the one that the project is tested with.
.venv-peers/.installed: pyproject.toml benchmarks/requirements.txt
	python3 -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement benchmarks/requirements.txt --editable .
	@touch $@

# Once per change of what is required: a second call does nothing.
$(installed): pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[lite,test]'
	@touch $@ $(runs)

# What the package needs to run, without what its tests need: half as many packages. Python compiles the modules that it
# imports; compiling all of them here takes half of the installation.
$(runs): pyproject.toml constraints.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --no-compile --constraint constraints.txt --editable '.[lite]'
	@touch $@
