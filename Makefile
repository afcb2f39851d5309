# make demo   the main job on packaged images and weights (10 to 13 minutes on two cores after the install)
# make test   the tests
# make lint   ruff, mypy --strict, import layers
# make slow   end-to-end tests of minutes; make browser: the report in Chromium (Debian's), with axe-core from npm
# make lock   pin what is installed now

.PHONY: demo test slow browser lint format lock clean install
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/automl demo --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: install
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

slow: install
	$(BIN)/python -m pytest -q -m slow

browser: install $(VENV)/axe
	$(BIN)/python -m pytest -q -m browser -n $(WORKERS)

# Without npm the checks of axe-core skip, and say so.
$(VENV)/axe: | install
	@command -v npm >/dev/null || { echo "no npm: axe-core is not installed"; exit 0; }; \
	 npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix $@ axe-core@4

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	{ echo "# What was tested together, for 'make install'. Written by 'make lock'."; \
	  $(BIN)/pip freeze --all --exclude-editable | grep -viE '^(pip|setuptools|wheel)==' | sed -E \
	  's/^((nvidia|cuda)[^;]*|triton==[^;]*)$$/\1 ; sys_platform == "linux" and platform_machine == "x86_64"/'; } > requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
