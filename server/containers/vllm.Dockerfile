# vLLM on NVIDIA GPUs with the citation blocker, this server's routes and the canary (docs/engines.md).
# docker build -f server/containers/vllm.Dockerfile -t hyperfit-vllm .
FROM vllm/vllm-openai:v0.32.0

COPY . /opt/hyperfit
# vLLM's image brings what the server needs; evaluation and training (lm-eval and the like) stay out of it.
RUN python3 -m pip install --no-cache-dir --no-deps /opt/hyperfit \
    && python3 -m pip install --no-cache-dir 'typer>=0.15' 'safetensors>=0.5' 'prometheus-client>=0.21' 'tqdm>=4.66' 'orjson>=3.10' \
    && python3 -c "import hyperfit_server.hooks.vllm, hyperfit_server.vllm_facade"

# Models are downloaded as this user, into a volume.
RUN useradd --create-home --uid 1000 server && mkdir /models && chown server /models
USER server
ENV HF_HOME=/models/hub VLLM_NO_USAGE_STATS=1
VOLUME /models
EXPOSE 8080

# A model of 70 billion parameters takes minutes to load; ready means that the canary has passed.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20m --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]

# The launcher becomes vLLM's process, which thus gets the signals: SIGTERM lets it end what it has begun.
ENTRYPOINT ["hyperfit", "serve", "--engine", "vllm", "--host", "0.0.0.0", "--port", "8080"]
