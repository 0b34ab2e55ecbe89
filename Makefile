# Every command of the project. `make run` and `make test` need nothing but Python >= 3.11 and make.
PYTHON ?= python3
# `make build PYTHON=3.11`: a bare version names the artifact's Python, and python3 runs the tools.
TARGET_PYTHON = 3.13
ifneq ($(filter 3.%,$(PYTHON)),)
  TARGET_PYTHON := $(PYTHON)
  override PYTHON = python3
endif
ARCH ?= arm64
STACK ?= stile
LOCAL = $(PYTHON) tools/venv.py src/lambda/requirements-local.txt --
DEV = $(PYTHON) tools/venv.py requirements-dev.txt --
SAM = SAM_CLI_TELEMETRY=0 $(PYTHON) tools/venv.py tools/requirements-sam.txt --
ARTIFACT = --arch $(ARCH) --python $(TARGET_PYTHON) $(if $(CONFIG),--config $(CONFIG))
SOURCES = src/lambda src/cli tests bench tools

.PHONY: help run key check-config test cover check schema format e2e build build-Gateway deploy bootstrap-token bench bench-cold lock

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*## / — /'

run: ## serve on 127.0.0.1:4000; the first start prints a key and a curl line
	@$(LOCAL) src/lambda/app.py

key: ## print a new admin key for the state in .stile/
	@$(LOCAL) src/lambda/app.py key

check-config: ## what of a model file is honoured, has no effect, or is wrong; CONFIG=config.yaml
	@$(LOCAL) src/lambda/app.py check-config $(CONFIG)

test: ## the test suite
	@$(DEV) -m pytest -n 4 -o faulthandler_timeout=90 tests --ignore=tests/e2e --ignore=tests/template

cover: ## the test suite with branch coverage
	@$(DEV) -m coverage erase
	@$(DEV) -m coverage run -m pytest -n 4 tests --ignore=tests/e2e --ignore=tests/template
	@$(DEV) -m coverage combine -q
	@$(DEV) -m coverage report

check: ## lint, format, types, the template
	@$(DEV) -m ruff check $(SOURCES)
	@$(DEV) -m ruff format --check $(SOURCES)
	@$(DEV) -m mypy
	@$(SAM) -m samcli validate --lint --region us-east-1 --template template.yaml
	@$(SAM) -c "from cfnlint.runner import main; main()" --template template.yaml --regions eu-central-1 us-east-1
	@$(DEV) -m pytest tests/template

# For the machine at hand, which is what emulators run.
BUILD_HERE = $(MAKE) --no-print-directory build ARCH=$(shell uname -m | sed s/aarch64/arm64/) \
  PYTHON=$(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")

e2e: ## what is heavy: the artifact under AWS's emulator of Lambda, a second Cognito (needs Node), a crowd, a long outage
	@$(BUILD_HERE)
	@$(DEV) -m pytest tests/e2e

schema: ## write doc/log-schema.json and doc/cli.md anew
	@$(DEV) tools/log_schema.py
	@$(DEV) -m tools.cli_page

format: ## format the sources
	@$(DEV) -m ruff check --fix $(SOURCES)
	@$(DEV) -m ruff format $(SOURCES)

build: ## the Lambda artifact: build/lambda/ and build/lambda.zip; ARCH=x86_64, PYTHON=3.11, CONFIG=config.yaml
	@$(DEV) -m tools.build $(ARTIFACT)

build-Gateway: # what `sam build` calls
	@$(DEV) -m tools.build $(ARTIFACT) --into "$(ARTIFACTS_DIR)"

deploy: ## build and deploy to the AWS account of this shell; STACK=stile, PARAMETERS="SnapStart=true …", BOOTSTRAP=1
	@$(SAM) -m samcli build
	@$(SAM) -m tools.deploy --stack $(STACK) $(if $(BOOTSTRAP),--bootstrap) $(PARAMETERS)

bootstrap-token: ## print a new one-time token for the first admin, and its SHA-256
	@$(PYTHON) tools/bootstrap_token.py

bench: ## the relay against a bare relay; PEERS=litellm adds LiteLLM's proxy
	@$(DEV) -m bench $(if $(PEERS),--peers $(PEERS))

bench-cold: ## cold starts of the built artifact, with LiteLLM's proxy beside it
	@$(BUILD_HERE)
	@$(DEV) -m bench.cold

# Releases younger than a fortnight are left alone: a poisoned one is usually found within days.
AGED = $(shell $(PYTHON) -c "import datetime as d; print((d.datetime.now(d.UTC) - d.timedelta(days=15)).date())")
COMPILE = -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
  --exclude-newer $(AGED) pyproject.toml
lock: ## pin all dependencies anew, with hashes
	@$(DEV) $(COMPILE) --group lambda -o src/lambda/requirements.txt
	@$(DEV) $(COMPILE) --group local -c src/lambda/requirements.txt -o src/lambda/requirements-local.txt
	@$(DEV) $(COMPILE) --group dev -c src/lambda/requirements-local.txt -o requirements-dev.txt
	@$(DEV) $(COMPILE) --group cli -c requirements-dev.txt -o src/cli/requirements.txt
	@$(DEV) $(COMPILE) --group sam -o tools/requirements-sam.txt
	@for group in aider llm sdks; do $(DEV) $(COMPILE) --group $$group -o tests/e2e/clients/$$group.txt; done
