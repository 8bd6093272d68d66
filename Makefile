# make demo    trains a classifier of handwritten digits, end to end, in a few minutes
# make test    checks the code
# Both make the environment first. PYTHON=python3.10 chooses the interpreter that it is made with;
# DATA_BACKEND=mxnet or dali-cpu what reads the demo's data.

export PYTHON DATA_BACKEND

.PHONY: setup demo test

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pytest
