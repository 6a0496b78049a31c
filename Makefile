PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

AUDIT := .venv-audit
LOAD := .venv-load

.PHONY: setup lock test lint check-deploy demo up down status sbom audit load

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SafeGuard needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

lock: setup
	$(VENV)/bin/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
	sed -i -e '1i # Made by `make lock`: every version that was tried together.' -e 's/+cpu$$//' -e '/^#/d' -e '/^$$/d' requirements.lock

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: lint
	$(RUN) -m pytest

check-deploy: setup
	$(RUN) -m pytest -q tests/deploy

$(AUDIT)/.installed: requirements-audit.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	touch $@

# What is in here, as CycloneDX 1.6.
sbom: $(AUDIT)/.installed
	$(AUDIT)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json

# Known vulnerabilities of what is in here; says so where they cannot be looked up.
audit: setup $(AUDIT)/.installed
	$(RUN) -m tools.audit $(AUDIT)/bin/pip-audit

$(LOAD)/.installed: requirements-load.txt
	$(PYTHON) -m venv $(LOAD)
	$(LOAD)/bin/pip install --quiet --disable-pip-version-check -r requirements-load.txt
	touch $@

# Mixed load in steps against a service of its own; PHOTOS=folder of pictures, without it the demo's.
load: setup $(LOAD)/.installed
	$(RUN) -m benchmarks.load $(PHOTOS) --locust $(LOAD)/bin/locust

demo: setup
	$(RUN) safeguard.py demo

up down status: setup
	$(RUN) safeguard.py $@
