# `make demo` and `make test` each do all set-up on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS = 1

.PHONY: demo test faults install check format bench acknowledge clean

demo: install            ## the whole way: clips, skeletons, pairs, pseudo videos, shards, stage two, a report
	$(BIN)/bodydouble demo --folder runs/demo

test: install            ## the default tier: every promise, at small size
	$(BIN)/python -m pytest -n 2

faults: install          ## the full kill matrix, random kills, a full disk
	BODYDOUBLE_FULL=1 $(BIN)/python -m pytest -n 2 -m faults --timeout 1800

check: install           ## what CI holds the code to
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install           ## measure, and write docs/benchmarks.md
	$(BIN)/python -m tests.bench

acknowledge: install     ## write down that a stage's code changed and its results did not
	$(BIN)/python -m tests.stages.test_versions

install: .venv/installed

# torch first, and alone: with it in place no other package can bring in another build
.venv/installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[mediapipe,shots,train,demo,ray,s3,dwpose,measure,mllm,dev]'
	$(BIN)/python -m pip install --quiet --no-deps rtmlib==0.0.16  # for tests; it names a second OpenCV, to lie over ours
	touch $@

clean:
	rm -rf .venv runs
