# make demo              trains a classifier of handwritten digits, end to end, in a few minutes
# make test              checks the code
# make test-fast         checks only what runs without starting programs, in a few minutes
# make test-pythons      runs `make test` with Python 3.8, 3.11 and 3.13, or VERSIONS, if they are installed
# make test-gpu          runs the tests of `make test` on NVIDIA GPUs
# make test-cuda-wheels  installs MXNet's wheel for GPUs and its libraries (3.7 GB), and tests it without a GPU
# make fuzz              tries N (20000) mutations of files and options, drawn from SEED (1); see tests/fuzz
# Each target creates the environment first. PYTHON=python3.10 chooses its interpreter; DATA_BACKEND=mxnet or dali-cpu
# chooses the demo's data backend.

export PYTHON DATA_BACKEND

N = 20000
SEED = 1

.PHONY: setup demo test test-fast test-pythons test-gpu test-cuda-wheels fuzz

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/pytest

test-fast: setup
	.venv/bin/pytest -m 'not program'

test-pythons:
	@scripts/test_pythons.sh $(VERSIONS)

# One test at a time, because parallel tests would share the GPUs' memory.
test-gpu:
	@scripts/setup.sh --gpu
	.venv/bin/pytest -n 0 -m gpu -rs

test-cuda-wheels: setup
	.venv/bin/pytest -n 0 -m cuda_wheels

# Another CHECKOUT, such as an older one, can be compared: make fuzz CHECKOUT=../before
fuzz: setup
	.venv/bin/python tests/fuzz/run.py --mutations $(N) --seed $(SEED) $(if $(CHECKOUT),--checkout $(CHECKOUT))
