"""A TIFF writer that knows what Pillow and tifffile do not write: any bands, masks, overviews, predictors, LZW."""

import io
import struct

import numpy as np
import tifffile
from PIL import Image

COMPRESSIONS = {"none": 1, "tiff_lzw": 5, "tiff_adobe_deflate": 8, "packbits": 32773, "lzma": 34925, "zstd": 50000}
_TYPES = {2: "s", 3: "H", 4: "I", 12: "d"}


def write_tiff(*pages: bytes, order: str = "<") -> bytes:
    """Pages of `page`, one after the other."""
    content, link = bytearray(b"II*\0" if order == "<" else b"MM\0*"), 4
    content += bytes(4)
    for tags, parts in pages:
        offsets = []
        for part in parts:
            offsets.append(len(content))
            content += part + bytes(len(part) % 2)
        tags = {
            **tags,
            273 if 322 not in tags else 324: (4, offsets),
            279 if 322 not in tags else 325: (4, list(map(len, parts))),
        }
        entries = b""
        for number, (kind, values) in sorted(tags.items()):
            data = values if kind == 2 else struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values)
            if len(data) > 4:
                at = len(content)
                content += data + bytes(len(data) % 2)
                data = struct.pack(f"{order}I", at)
            entries += struct.pack(f"{order}HHI", number, kind, len(values)) + data.ljust(4, b"\0")
        content[link : link + 4] = struct.pack(f"{order}I", len(content))
        content += struct.pack(f"{order}H", len(tags)) + entries
        link = len(content)
        content += bytes(4)
    return bytes(content)


def page(
    values: np.ndarray, *, order="<", compression="none", predictor=1, planes=False, part=(0, 0), photometric=1, **tags
) -> tuple[dict, list[bytes]]:
    """Tags and parts of (H, W, bands) values, `part`: rows of a strip, or rows and columns of a tile.

    More tags: `orientation`, `nodata` (text), `extra` (kinds of the further bands), `page_type`.
    """
    height, width, bands = values.shape
    down, across = part[0] or height, part[1] or width
    bits = 1 if values.dtype == bool else 8 * values.dtype.itemsize
    kind = {"b": 1, "u": 1, "i": 2, "f": 3}[values.dtype.kind]
    parts = []
    for plane in np.split(values, bands, axis=2) if planes else [values]:
        for top in range(0, height, down):
            for left in range(0, width, across):
                piece = plane[top : top + down, left : left + across]
                if part[1]:
                    missing = ((0, down - piece.shape[0]), (0, across - piece.shape[1]), (0, 0))
                    piece = np.pad(piece, missing)
                parts.append(_packed(_predicted(piece, predictor, order), COMPRESSIONS[compression]))
    tags = (
        {274: (3, [tags.get("orientation", 1)]), 254: (4, [tags.get("page_type", 0)])}
        | ({42113: (2, tags["nodata"].encode() + b"\0")} if "nodata" in tags else {})
        | ({338: (3, tags["extra"])} if "extra" in tags else {})
    )
    tags |= {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * bands), 259: (3, [COMPRESSIONS[compression]]),
        262: (3, [photometric]), 277: (3, [bands]), 284: (3, [2 if planes else 1]), 339: (3, [kind] * bands),
        317: (3, [predictor]),
    }  # fmt: skip
    return tags | ({322: (4, [across]), 323: (4, [down])} if part[1] else {278: (4, [down])}), parts


def _predicted(piece: np.ndarray, predictor: int, order: str) -> np.ndarray:
    """uint8 (rows, bytes): the values, or what each adds to the one before."""
    rows, _, samples = piece.shape
    if piece.dtype == bool:
        return np.packbits(piece[..., 0], axis=1)
    if predictor == 3:
        planes = np.ascontiguousarray(piece.astype(piece.dtype.newbyteorder(">")).reshape(rows, -1)).view(np.uint8)
        planes = planes.reshape(rows, -1, piece.itemsize).swapaxes(1, 2).reshape(rows, -1, samples)
        return np.diff(planes, axis=1, prepend=np.uint8(0)).reshape(rows, -1)
    if predictor == 2:
        piece = np.diff(piece, axis=1, prepend=piece.dtype.type(0))
    return np.ascontiguousarray(piece.astype(piece.dtype.newbyteorder(order))).view(np.uint8).reshape(rows, -1)


def _packed(lines: np.ndarray, compression: int) -> bytes:
    if compression == 1:
        return lines.tobytes()
    buffer, name = io.BytesIO(), next(key for key, value in COMPRESSIONS.items() if value == compression)
    Image.fromarray(lines).save(buffer, "TIFF", compression=name, tiffinfo={278: len(lines)})
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        assert len(file.pages[0].dataoffsets) == 1
    return buffer.getvalue()[offset : offset + count]
