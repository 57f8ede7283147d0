"""How large a picture is, read from its first bytes: PNG, GIF and JPEG. Any other is as large as those drawn here."""

import struct
from typing import Final

from router.sandbox.pictures import MOST, SIDE, SIGNATURE

# Frames of JPEG that carry a size: C0 to CF but for the tables C4, C8 and CC (ITU-T T.81, table B.1).
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_of(image: bytes) -> tuple[int, int]:
    """Width and height, no more of either than is ever drawn."""
    try:
        width, height = _size(image)
    except (struct.error, IndexError):
        width = height = SIDE
    return max(1, min(width, MOST)), max(1, min(height, MOST))


def _size(image: bytes) -> tuple[int, int]:
    if image.startswith(SIGNATURE):
        width, height = struct.unpack_from(">II", image, 16)
    elif image.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", image, 6)
    elif image.startswith(b"\xff\xd8"):
        at = 2
        while image[at + 1] not in FRAMES:
            at += 2 + max(2, struct.unpack_from(">H", image, at + 2)[0])
        height, width = struct.unpack_from(">HH", image, at + 5)
    else:
        return SIDE, SIDE
    return width, height
