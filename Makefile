# The commands a newcomer needs: `make run`, `make check`, `make test` and `make docs`. Each makes its
# own environment in .venv first. PYTHON=… names another interpreter than python3. The versions are
# those of constraints.txt; `make test LOCK=` takes the newest, and leaves out style and types.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK:%=-c %) --editable

# What tests start again and again is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run check test mixer task docs clean
# Two targets would install into one environment at once.
.NOTPARALLEL:

# The published experiment, and the project's own memory in it.
run: $(VENV)/.installed
	$(BIN)/rulekeep article --models 'attention,compressed,sparse_delta[heads=2,gate_kernel=2,gate_penalty=0,short_convolution=false]'

# Style, types, layers and the quick tests of the core: about a minute on two idle cores.
check: $(VENV)/.installed-test
	$(BIN)/python tools/ratchet.py
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'core and not slow'

# Everything, as CI runs it.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What a new mixer or task needs beside its file: make mixer NAME=…, make task NAME=…
mixer: $(VENV)/.installed-test
	$(BIN)/rulekeep check $(NAME)
	$(BIN)/python tests/goldens/write.py defaults mixers training
	$(BIN)/python tools/mixers.py > docs/mixers.md
	$(BIN)/python tools/tree.py

task: $(VENV)/.installed-test
	$(BIN)/rulekeep check-task $(NAME)
	$(BIN)/python tests/goldens/write.py defaults tasks training
	$(BIN)/rulekeep certify $(NAME) --out results/certificates
	$(BIN)/python tools/tree.py

# The site, into site/: open site/index.html. A link that leads nowhere is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python tools/board.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A stamp, not the interpreter: an environment that was interrupted is made again. It says where it
# was made: a copied checkout would run the code of the other, and one without its Python nothing.
ifneq ($(shell cat $(VENV)/.made 2>/dev/null; $(BIN)/python -c '' 2>/dev/null && echo runs),$(CURDIR) runs)
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "rulekeep needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): name one with make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) has no venv: install it (Debian and Ubuntu: apt install python3-venv) or name another with make PYTHON=…" >&2; exit 1; }
	@[ -z "$$(ls -A $(VENV) 2>/dev/null)" ] || [ -e $(VENV)/.made ] || [ -e $(VENV)/.making ] || { \
	    echo "$(VENV) was not made by make: move it away, or name another folder with make VENV=…" >&2; exit 1; }
	@mkdir -p $(VENV) && touch $(VENV)/.making && find $(VENV) -mindepth 1 ! -name .making -delete
	$(PYTHON) -m venv $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.installed: pyproject.toml $(LOCK) $(VENV)/.made
	$(INSTALL) .
	touch $@

$(VENV)/.installed-test: pyproject.toml $(LOCK) $(VENV)/.made
	$(INSTALL) '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(LOCK) $(VENV)/.made
	$(INSTALL) '.[docs]'
	touch $@ $(VENV)/.installed
