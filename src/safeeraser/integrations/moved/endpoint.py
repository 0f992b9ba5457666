"""``safeeraser.endpoint`` is ``safeeraser.models.served`` now."""

from safeeraser.models.replies import Outcome
from safeeraser.models.served import Endpoint, Message, Request

__all__ = ["Endpoint", "Message", "Outcome", "Request"]
