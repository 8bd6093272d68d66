# make demo              trains a classifier of handwritten digits, end to end, in a few minutes
# make test              checks the code
# make test-gpu          runs on NVIDIA GPUs what `make test` runs on the CPU
# make test-cuda-wheels  installs MXNet's wheel for GPUs, and 3.7 GB that it links, and tries it without a GPU
# All make the environment first. PYTHON=python3.10 chooses the interpreter that it is made with;
# DATA_BACKEND=mxnet or dali-cpu what reads the demo's data.

export PYTHON DATA_BACKEND

.PHONY: setup demo test test-gpu test-cuda-wheels

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/pytest

# One at a time: they would share the GPUs' memory.
test-gpu:
	@scripts/setup.sh --gpu
	.venv/bin/pytest -n 0 -m gpu -rs

test-cuda-wheels: setup
	.venv/bin/pytest -n 0 -m cuda_wheels
