# For servers with NVIDIA GPUs: NVIDIA's builds of MXNet, DALI and Horovod (with NCCL), and this package's other needs.
#   docker build -t imagenet-mxnet .
#   mkdir -p runs
#   docker run --rm -it --gpus all --ipc host --ulimit memlock=-1 --ulimit stack=67108864 --user "$(id -u)" -e HOME=/tmp \
#     -v /data/imagenet:/data/imagenet -v "$PWD/runs":/runs imagenet-mxnet ./runner -n 8 -b 192 --workspace /runs
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/mxnet:22.10-py3
FROM ${FROM_IMAGE_NAME}

LABEL org.opencontainers.image.title="imagenet-mxnet" \
      org.opencontainers.image.description="Training, evaluation and prediction of ImageNet classifiers on MXNet, on GPUs"

# Unbuffered, so that a run's output reaches `docker logs` line by line.
ENV PYTHONUNBUFFERED=1

WORKDIR /workspace/imagenet-mxnet

# The list is complete, so --no-deps keeps the image's own NumPy, OpenCV, DALI and Horovod.
COPY requirements/tools.txt ./requirements/
RUN pip install --no-cache-dir --no-deps -r requirements/tools.txt
# DLLogger is for tools that read logs with it; this package writes the same format without it. The imports check the
# packages of the image here, because a missing one would otherwise be noticed only in the middle of a run.
ARG DLLOGGER=https://github.com/NVIDIA/dllogger/archive/refs/tags/v1.0.0.tar.gz
RUN pip install --no-cache-dir --no-deps "${DLLOGGER}" && \
    python -c 'import cv2, google.protobuf, horovod, matplotlib, numpy, nvidia.dali, psutil, pynvml, tensorboardX, yaml'

# Nothing needs root. Output folders must belong to this user, or to the user given by `docker run --user`.
RUN useradd --create-home --shell /bin/bash trainer && chown trainer:trainer .
COPY --chown=trainer:trainer . .
USER trainer

CMD ["./runner", "--check"]
