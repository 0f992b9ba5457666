"""Images: the one way from a file to the pixels that a model, a judge and a hash are given.

They are the pixels that a person sees: turned upright as the photograph's EXIF says, 16 bits scaled to 8, what is
transparent laid on white, of an animation the first frame.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safeeraser.core.errors import UserError
from safeeraser.data.benchmark import Benchmark

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

    from safeeraser.core.terminal import Progress

CACHE_BYTES = 64 * 2**20
"""Decoded images kept in memory at most."""
MAX_PIXELS = 64_000_000
"""Pixels of an image at most: more is a decompression bomb, or no use to a model that sees some hundred a side."""
MAX_PNG_PIXELS = 4_000_000
"""A photograph of more pixels is sent as JPEG where its own file cannot be: a PNG would be larger than servers take."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats that are read, told by content; the file's name does not matter."""

_DAMAGE = (
    *(OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, OverflowError, MemoryError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on damaged files."""
_ORIENTATION = 0x0112
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM")
_PHONE_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif")


def decode(path: Path) -> Image:
    """Decode an image file whole, as a person sees it, to RGB.

    Raises:
        UserError: If it is in none of ``FORMATS``, is damaged or cut short, or has more than ``MAX_PIXELS``.
    """
    with _opened(path) as file:
        return to_rgb(file)


def encode(path: Path) -> tuple[bytes, str]:
    """Encode an image file for a server, which shall see what ``decode`` gives: content and MIME type.

    A PNG or JPEG file goes as it is where that is so; anything else (a photograph to be turned, transparency, 16 bits,
    another format) is encoded anew.

    Raises:
        UserError: As ``decode``.
    """
    with _opened(path) as file:
        if file.format in ("PNG", "JPEG") and file.mode in ("RGB", "L") and not _is_changed(file):
            return path.read_bytes(), f"image/{file.format.lower()}"
        image, buffer = to_rgb(file), io.BytesIO()
    if image.width * image.height <= MAX_PNG_PIXELS:
        image.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def to_rgb(image: Image) -> Image:
    """The RGB image that a person sees of an opened one.

    Example:
        >>> from PIL import Image
        >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
        >>> to_rgb(Image.new("I;16", (1, 1), 257 * 100)).getpixel((0, 0))
        (100, 100, 100)
    """
    from PIL import Image, ImageOps

    image.load()
    is_png = image.format == "PNG"
    try:
        image = ImageOps.exif_transpose(image)
    except _DAMAGE:  # the note is damaged, not the pixels: viewers show them as they are
        pass
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(image, is_png)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer, paper = image.convert("RGBA"), Image.new("RGB", image.size, "white")
    paper.paste(layer, mask=layer.getchannel("A"))
    return paper


def _eight_bits(image: Image, is_png: bool) -> NDArray[np.uint8]:
    """A grey image of 16 bits, or in memory of 32 or floating point, which say nothing of their range, as 8 bits.

    ``is_png``: read from a PNG file, of which old versions of Pillow make mode "I".
    """
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    largest = values.max(initial=0)
    if image.mode.startswith("I;16") or is_png or largest > 255:
        grey = values / 257  # 65,535 is white
    else:
        grey = values * 255 if image.mode == "F" and largest <= 1 else values
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    return np.rint(grey).clip(0, 255).astype(np.uint8)


def _is_changed(file: ImageFile) -> bool:
    """Whether ``to_rgb`` changes more than the mode."""
    try:
        turned = file.getexif().get(_ORIENTATION, 1) != 1
    except _DAMAGE:  # the note is damaged, not the pixels, see ``to_rgb``; a server might stumble over it
        turned = True
    return turned or file.has_transparency_data or getattr(file, "n_frames", 1) > 1


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile]:
    """An image file with its pixels; what is wrong with it is an error with the reason."""
    from PIL import Image, ImageFile, UnidentifiedImageError

    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have set it: half an image is not the image
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UserError(f"{file.width} x {file.height} pixels: at most {MAX_PIXELS:,} in all are read")
            file.load()
            yield file
            return
    except UserError:
        raise
    except Image.DecompressionBombError:
        reason = f"far more than {MAX_PIXELS:,} pixels, the most that are read"
    except UnidentifiedImageError:
        reason = _what_it_is(path)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"cannot be opened ({error.strerror})"
        else:
            reason = f"damaged or cut short ({type(error).__name__}: {error}): copy or download it again"
    raise UserError(reason)


def _what_it_is(path: Path) -> str:
    """What a file that is no image holds, as far as that is a known mishap."""
    with open(path, "rb") as file:
        head = file.read(512)
    text = head.lstrip().lower()
    if not head:
        return "an empty file (0 bytes): copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself: run 'git lfs pull' in the folder that was cloned"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image, as a download that failed leaves it: download it again"
    if head[4:8] == b"ftyp" and head[8:12] in _PHONE_BRANDS:
        return "HEIC or AVIF, as telephones write it: save it as JPEG or PNG"
    if head.startswith(_SIGNATURES):
        return "damaged or cut short: copy or download it again"
    return f"its content is none of {', '.join(FORMATS)}"


def pixel_hash(image: Image) -> str:
    """Hash what an RGB image shows (16 hex digits): equal for equal pixels, whatever the file's name and format.

    Example:
        >>> from PIL import Image
        >>> pixel_hash(Image.new("RGB", (2, 3))) == pixel_hash(Image.new("RGB", (3, 2)))
        False
    """
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:16]


def unreadable(paths: Sequence[Path], progress: Progress | None = None) -> dict[Path, str]:
    """Decode distinct image files, in as many threads as there are CPUs: the reason for each that fails.

    ``progress`` is called with (done, total).
    """

    def damage(path: Path) -> str | None:
        try:
            decode(path)
        except UserError as error:
            return str(error)
        return None

    reasons: dict[Path, str] = {}
    with _no_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, (path, reason) in enumerate(zip(paths, pool.map(damage, paths), strict=True), 1):
            if reason is not None:
                reasons[path] = reason
            if progress:
                progress(done, len(paths))
    return reasons


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of what is merely odd, and of half a bomb, where the limit here is lower; not for use in threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class ImageCache:
    """Decodes each image once, while what is kept takes less than a budget.

    ``budget``: bytes of decoded images to keep; beyond it an image is decoded again at each use.
    """

    def __init__(self, benchmark: Benchmark, budget: int = CACHE_BYTES) -> None:
        self._benchmark, self._left = benchmark, budget
        self._kept: dict[str, Image] = {}

    def get(self, name: str) -> Image:
        """The image, named relative to the dataset folder, as RGB.

        Raises:
            UserError: If it is missing, leaves the folder, or is not a readable image.
        """
        if name in self._kept:
            return self._kept[name]
        image = self._decode(name)
        size = 3 * image.width * image.height
        if size <= self._left:
            self._left -= size
            self._kept[name] = image
        return image

    def _decode(self, relative: str) -> Image:
        path = self._benchmark.image(relative)
        try:
            with _no_warnings():
                return decode(path)
        except UserError as error:
            raise UserError(
                f"image {relative!r} cannot be read ({error}): replace the file, or remove its record; to find all "
                f"such images: safeeraser data check {self._benchmark.root}"
            ) from None
