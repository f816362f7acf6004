"""Chunks of texts that are longer than a text encoder reads, cut between words where possible."""

from typing import Any

from sentence_transformers import SentenceTransformer

from mmprep.pipeline.errors import WeightsError

Chunk = tuple[str, int]
"""A part of a text, and its number of tokens."""


class Chunker:
    """Splits texts into chunks of as many tokens as the model reads beside the prompt and special tokens."""

    def __init__(self, model: SentenceTransformer, prompt: str, encoder: str) -> None:
        """Measure the room of a chunk.

        Raises:
            WeightsError: the model has no fast tokenizer, which chunks need, or the prompt leaves no room.
        """
        tokenizer: Any = model.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise WeightsError(
                f"encoders.{encoder}.long_texts: found mean_of_chunks, but the model has no fast tokenizer; take cut"
            )
        self._tokenizer = tokenizer
        used = tokenizer.num_special_tokens_to_add() + len(self._places(prompt))
        self._room = None if model.max_seq_length is None else model.max_seq_length - used
        if self._room is not None and self._room < 1:
            raise WeightsError(
                f"encoders.{encoder}.prompt: found {prompt!r}, which leaves no room in {model.max_seq_length} tokens"
            )

    def split(self, text: str) -> list[Chunk]:
        """The chunks of a text; a text that fits is one chunk."""
        places = self._places(text)
        if self._room is None or len(places) <= self._room:
            return [(text, len(places))]
        chunks, start = [], 0
        while start < len(places):
            end = self._end(places, start, self._room)
            chunks.append((text[places[start][0] : places[end - 1][1]], end - start))
            start = end
        return chunks

    def _end(self, places: list[tuple[int, int]], start: int, room: int) -> int:
        """Position behind the last token of a chunk: at a gap between words in its second half if there is one."""
        end = min(start + room, len(places))
        if end == len(places):
            return end
        gaps = (place for place in range(end, start + room // 2, -1) if places[place][0] > places[place - 1][1])
        return next(gaps, end)

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Offsets of a text's tokens in characters, without special tokens."""
        tokenized = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places: list[tuple[int, int]] = tokenized["offset_mapping"]
        return places
