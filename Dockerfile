# docker build -t safeeraser .
# docker run --rm -v "$PWD/runs:/work/runs" safeeraser bench --quick
# Options, GPUs and the smaller PyTorch without CUDA: docs/install.md
FROM python:3.11-slim
WORKDIR /opt/safeeraser
COPY requirements.lock pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN python -m pip install --no-cache-dir --no-compile "$(grep -E '^torch==' requirements.lock)"
RUN python -m pip install --no-cache-dir --no-compile --constraint requirements.lock .
ENV OMP_NUM_THREADS=1
WORKDIR /work
ENTRYPOINT ["safeeraser"]
CMD ["--help"]
