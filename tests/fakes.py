"""An encoder without a network: what it gives is known, and it remembers what went through it."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmprep.models.encoders.base import Identity
from mmprep.pipeline.features.vectors import VectorBatch

PATCHES = 3
WORD = re.compile(r"\w+")
Seen = str | float


@dataclass
class FakeEncoder:
    """Every number of a text's vector is its length, of a photo's its grey level.

    Patches are three times that; the tokens of a text are its words, each the word's length.

    Attributes:
        tells_batch: the last number is the sum over the batch instead, as the last bits of a network's numbers depend
            on what else is in the batch.
        seconds: that a batch takes.
        loaded: how many times the network was loaded.
        batches: what went through it, batch by batch: texts, and grey levels of photos.
    """

    tells_batch: bool = False
    seconds: float = 0
    loaded: int = 0
    batches: list[list[Seen]] = field(default_factory=list)

    def load(self, identity: Identity) -> "FakeEncoder":
        """In the place of mmprep.stages.extract.encode.load_encoder."""
        self.loaded += 1
        self._form, self._dimension = identity.description.form, identity.description.dimension or 4
        return self

    @property
    def seen(self) -> list[Seen]:
        """All that went through it."""
        return [each for batch in self.batches for each in batch]

    def sizes(self, sources: Sequence[str]) -> list[int]:
        return [0 if source.startswith("images") else len(source) for source in sources]

    def prepare(self, source: str | Image.Image) -> Seen:
        return source if isinstance(source, str) else float(cast("tuple[int, ...]", source.getpixel((0, 0)))[0])

    def encode(self, batch: list[Seen]) -> VectorBatch:
        self.batches.append(batch)
        time.sleep(self.seconds)
        if self._form == "tokens":
            return self._tokens([str(text) for text in batch])
        values = np.array([len(each) if isinstance(each, str) else each for each in batch], dtype=np.float32)
        if self._form == "patches":
            return VectorBatch(self._repeat(np.repeat(values, PATCHES)), np.full(len(batch), PATCHES))
        vectors = self._repeat(values)
        if self.tells_batch:
            vectors[:, -1] = values.sum()
        return VectorBatch(vectors)

    def _tokens(self, batch: list[str]) -> VectorBatch:
        spans = [[match.span() for match in WORD.finditer(text)] for text in batch]
        flat = np.array([span for found in spans for span in found], dtype=np.int32).reshape(-1, 2)
        return VectorBatch(self._repeat(np.diff(flat)[:, 0]), np.array([len(found) for found in spans]), flat)

    def _repeat(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        return np.repeat(values.astype(np.float32)[:, None], self._dimension, axis=1)
