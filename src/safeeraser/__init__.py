"""SafeEraser: safety unlearning for multimodal LLMs, measured honestly.

One straight line: benchmark data -> model -> unlearn -> respond -> judge -> score -> report.
"""

__version__ = "0.1.0"
