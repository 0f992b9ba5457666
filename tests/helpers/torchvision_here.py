"""Whether torchvision is here, which some image processors need: ``AVAILABLE``. To be imported before transformers.

Its compiled operators, which no processor uses, may be for another build of torch, as where torch is for CPUs alone and
an index has torchvision for CUDA alone; then it imports once the operators that it asks for are declared.
"""

import importlib.util

import torch

AVAILABLE = importlib.util.find_spec("torchvision") is not None
if AVAILABLE:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        DECLARED = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            DECLARED.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
