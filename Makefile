# make demo and make test each make their own environment: only Python 3.11 and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint docs format clean

demo: $(VENV)/installed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/accelerate launch recipes/train.py recipes/configs/demo.yaml
	$(BIN)/python recipes/predict.py --adapter runs/demo/adapter --images docs/images/chase_db1_01L.jpg --output_dir runs/demo/predictions
	$(BIN)/python recipes/predict.py --adapter tiny --images docs/images/chase_db1_01L.jpg --output_dir runs/demo/tiny

# Two workers of one thread each: a test computes little, and imports take longer than most tests.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(BIN)/mkdocs build --strict

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): some minutes, most of them for PyTorch"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --constraint constraints.txt --editable ".[test,dev,docs]"
	touch $@

clean:
	rm -rf $(VENV) build site *.egg-info
