# Every command of the project. `make run` and `make test` need nothing but Python >= 3.11 and make.
PYTHON ?= python3
LOCAL = $(PYTHON) tools/venv.py src/lambda/requirements-local.txt --
DEV = $(PYTHON) tools/venv.py requirements-dev.txt --
SOURCES = src/lambda tests bench tools

.PHONY: help run key test cover check format bench lock

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## / — /'

run: ## serve on 127.0.0.1:4000; the first start prints a key and a curl line
	@$(LOCAL) src/lambda/app.py

key: ## print a new admin key for the state in .stile/
	@$(LOCAL) src/lambda/app.py key

test: ## the test suite
	@$(DEV) -m pytest -n 4 tests

cover: ## the test suite with branch coverage
	@$(DEV) -m coverage erase
	@$(DEV) -m coverage run -m pytest -n 4 tests
	@$(DEV) -m coverage combine -q
	@$(DEV) -m coverage report

check: ## lint, format, types
	@$(DEV) -m ruff check $(SOURCES)
	@$(DEV) -m ruff format --check $(SOURCES)
	@$(DEV) -m mypy

format: ## format the sources
	@$(DEV) -m ruff check --fix $(SOURCES)
	@$(DEV) -m ruff format $(SOURCES)

bench: ## the relay against a bare relay; PEERS=litellm adds LiteLLM's proxy
	@$(DEV) -m bench $(if $(PEERS),--peers $(PEERS))

# Releases younger than a fortnight are left alone: a poisoned one is usually found within days.
AGED = $(shell $(PYTHON) -c "import datetime as d; print((d.datetime.now(d.UTC) - d.timedelta(days=15)).date())")
COMPILE = -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
  --exclude-newer $(AGED) pyproject.toml
lock: ## pin all dependencies anew, with hashes
	@$(DEV) $(COMPILE) --group lambda -o src/lambda/requirements.txt
	@$(DEV) $(COMPILE) --group local -c src/lambda/requirements.txt -o src/lambda/requirements-local.txt
	@$(DEV) $(COMPILE) --group dev -c src/lambda/requirements-local.txt -o requirements-dev.txt
