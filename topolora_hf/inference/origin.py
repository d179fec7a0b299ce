"""What a predicted mask was made of, noted in its file: so that none is taken for another image's or network's."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from ..data.decode import guarded
from ..data.limits import pillow_within_limit

_KEY = "topolora_hf"
_BYTES = 12


@dataclass(frozen=True)
class Origin:
    """Digests: whoever is given the mask learns nothing of the machine that made it.

    Attributes:
        image: of the content of the image's file.
        place: of where that file lay.
        network: of what predicted (`network_digest`).
    """

    image: str
    place: str
    network: str

    @classmethod
    def of(cls, image: Path, network: str) -> "Origin":
        """That of the mask of an image's file as it is now.

        Raises:
            DataError: the file cannot be read.
        """
        place = _hash(str(image.resolve()).encode(errors="surrogateescape")).hexdigest()
        return cls(guarded(_content_digest, image), place, network)

    @classmethod
    def read(cls, mask: Path) -> "Origin | None":
        """What a mask's file says; None where it says nothing.

        Raises:
            FileNotFoundError: there is no such mask.
        """
        try:
            with pillow_within_limit(), Image.open(mask) as picture:
                return cls(*picture.info[_KEY].split())
        except FileNotFoundError:
            raise
        except (AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError):
            return None

    def as_text(self) -> dict[str, str]:
        """What `Prediction.save_mask` takes as `text`."""
        return {_KEY: " ".join(asdict(self).values())}


def network_digest(network: nn.Module, settings: Mapping) -> str:
    """Of every weight, wherever it came from, and of all settings that a mask depends on."""
    digest = _hash(repr(sorted(settings.items())).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _content_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _hash).hexdigest()


def _hash(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.blake2b(content, digest_size=_BYTES)
