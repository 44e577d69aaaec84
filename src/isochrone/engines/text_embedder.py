"""The ``embeddings`` task: text → tokens → one ONNX run → vectors. Lives in the worker process.

Intuition: the graph pools and normalises, so a vector is an output row and nothing is computed
here. Texts of one request run together, padded to the longest, in groups that bound memory.

Rules: a text longer than ``max_tokens`` is refused, since a silently cut text has another meaning;
option ``truncate`` cuts instead. Token lists are taken as they are, between the tokenizer's own
first and last special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from isochrone.engines.onnx_model import OnnxModel
from isochrone.engines.openai_embeddings import EmbeddingsRequest
from isochrone.engines.options import OnnxOptions
from isochrone.engines.worker_turns import Stop
from isochrone.schema.errors import InvalidInput

#: Most texts in one run of the graph: bounds memory (32 x 256 tokens stay under 200 MiB).
GROUP_MAX = 32


class TextEmbedder:
    """A tokenizer in front of a model. Raises ``InvalidInput`` when they do not fit together."""

    def __init__(self, model: OnnxModel, tokenizer: Path, options: OnnxOptions) -> None:
        self._model = model
        self._batch_tokens_max = options.batch_tokens_max
        self._max_tokens, self._truncate = options.max_tokens, options.truncate
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        except Exception as error:
            raise InvalidInput(
                f"{tokenizer.name} is not a tokenizer: {error}.", fix="Apply the right file."
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._vocabulary = self._tokenizer.get_vocab_size()
        special = self._tokenizer.encode("").ids
        self._first, self._last = (special[:1], special[1:]) if len(special) == 2 else ([], [])
        self._inputs = {spec.name for spec in model.inputs}
        if not {"input_ids", "attention_mask"} <= self._inputs <= _KNOWN:
            raise InvalidInput(
                f"An embeddings model takes {', '.join(sorted(_KNOWN))}, this one takes "
                f"{', '.join(sorted(self._inputs))}.",
                fix="Export it with those inputs, or declare the task tensor.",
            )
        rows = [spec.name for spec in model.outputs if len(spec.shape) == 2]
        if not rows:
            raise InvalidInput(
                "No output of the model has one row an input.",
                fix="Pool and normalise inside the graph.",
            )
        self._output = "sentence_embedding" if "sentence_embedding" in rows else rows[0]

    def embed(
        self, request: EmbeddingsRequest, stop: Stop | None = None
    ) -> tuple[npt.NDArray[np.float32], int, int]:
        """Vectors, tokens read, microseconds in the model. Raises ``InvalidInput``, and
        ``StoppedError`` when stopped."""
        rows = [self._tokens(one, index) for index, one in enumerate(request.inputs)]
        total = sum(map(len, rows))
        if total > self._batch_tokens_max:
            raise InvalidInput(
                f"the request has {total} tokens, at most {self._batch_tokens_max} are read"
                " at once; send it in parts"
            )
        vectors, engine_us = [], 0
        for start in range(0, len(rows), GROUP_MAX):
            (found,), took_us = self._model.run(
                self._padded(rows[start : start + GROUP_MAX]), [self._output], stop
            )
            vectors.append(found.astype(np.float32, copy=False))
            engine_us += took_us
        return np.concatenate(vectors), total, engine_us

    def _tokens(self, one: str | list[int], index: int) -> list[int]:
        if isinstance(one, str):
            ids: list[int] = self._tokenizer.encode(one).ids
        else:
            if not all(0 <= token < self._vocabulary for token in one):
                raise InvalidInput(f"input {index} has tokens outside 0 to {self._vocabulary - 1}")
            ids = [*self._first, *one, *self._last]
        if len(ids) <= self._max_tokens:
            return ids
        if not self._truncate:
            raise InvalidInput(
                f"input {index} has {len(ids)} tokens, this model reads at most {self._max_tokens}"
            )
        return ids[: self._max_tokens - len(self._last)] + self._last

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, npt.NDArray[np.int64]]:
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        fed = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            fed["token_type_ids"] = np.zeros_like(ids)
        return fed


_KNOWN = {"input_ids", "attention_mask", "token_type_ids"}
