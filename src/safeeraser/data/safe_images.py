"""``safeeraser.data.safe_images.content_hash`` is ``safeeraser.data.images.pixel_hash`` now."""

from safeeraser.data.images import pixel_hash as content_hash

__all__ = ["content_hash"]
