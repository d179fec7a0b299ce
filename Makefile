# make demo and make test each make their own environment: only Python 3.11 and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/installed
	$(BIN)/accelerate launch recipes/train.py recipes/configs/demo.yaml
	$(BIN)/python recipes/predict.py --adapter runs/demo/adapter --images docs/images/chase_db1_01L.jpg --output_dir runs/demo/predictions
	$(BIN)/python recipes/predict.py --adapter tiny --images docs/images/chase_db1_01L.jpg --output_dir runs/demo/tiny

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
