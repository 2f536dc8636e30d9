"""Sentence embeddings: a text in, a vector out; texts that mean alike have vectors that point the same way.

Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.data.examples import Splits
from layerwise.data.texts import unpack_texts
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.texts import TextTask, TokenOptions


@dataclass(frozen=True, kw_only=True)
class SentenceEmbeddingConfig(TokenOptions):
    """Options of sentence embeddings: how texts become tokens."""

    tokenizer: str = "wordpiece"


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing the mean of theirs, float64 [N]."""
    _, inverse, counts = torch.unique(values.double(), return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation; 0 where one of the two is constant."""
    x, y = (r - r.mean() for r in (ranks(a), ranks(b)))
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


class EmbeddingMetrics(Accumulator):
    """Spearman's correlation of cosines with scores; or, without scores, how often a text's own partner is the most
    alike of all, and the mean cosine of partners.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = {"first": [], "second": [], "scores": [], "ids": []}

    def update(self, network: nn.Module, batch: Batch) -> None:
        self.rows["first"].append(embed(network, batch["tokens"], batch["mask"]).cpu())
        self.rows["second"].append(embed(network, batch["pair_tokens"], batch["pair_mask"]).cpu())
        self.rows["ids"].append(batch["sample_ids"].cpu())
        if "scores" in batch:
            self.rows["scores"].append(batch["scores"].cpu())

    def state(self) -> dict[str, Tensor]:
        return {name: torch.cat(parts) for name, parts in self.rows.items() if parts}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        order = torch.cat([state["ids"] for state in states]).argsort()
        self.rows = {name: [torch.cat([state[name] for state in states])[order]] for name in states[0]}

    def compute(self) -> dict[str, float]:
        found = self.state()
        if "ids" not in found:
            return {}
        cosines = (found["first"] * found["second"]).sum(1)
        if "scores" in found:
            return {"spearman": spearman(cosines, found["scores"]), "cosine": float(cosines.mean())}
        right = sum(
            int(((rows @ found["second"].T).argmax(1) == ids).sum())
            for rows, ids in zip(found["first"].split(512), torch.arange(len(cosines)).split(512), strict=True)
        )
        return {"retrieved": right / len(cosines), "cosine": float(cosines.mean())}

    def table(self) -> dict[str, Any]:
        return {"count": sum(map(len, self.rows["ids"]))}


def embed(network: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """Embeddings of length one, float32 [B, D]."""
    return F.normalize(network(tokens=tokens, mask=mask).float(), dim=1)


class SentenceEmbedding(TextTask):
    """Model inputs `tokens` and `mask` of texts, and `pair_tokens` and `pair_mask` of their partners: each is encoded
    by itself. The network gives embeddings [B, D].
    """

    def __init__(self, config: SentenceEmbeddingConfig) -> None:
        super().__init__(config)
        self.scored = False

    @property
    def monitor(self) -> tuple[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Spearman's correlation where there are scores."""
        return ("spearman" if self.scored else "retrieved", "max")

    def bind(self, splits: Splits) -> None:
        self.bind_texts(splits, {"pair"})
        part = splits.val if splits.val is not None else splits.train
        self.scored = part is not None and "scores" in part.collate(torch.tensor([0]))
        self.paired = False  # each text by itself

    def state(self) -> dict[str, Any]:
        return {**super().state(), "scored": self.scored}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.scored = state["scored"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "head": "embedding"}

    def accumulator(self) -> EmbeddingMetrics:
        return EmbeddingMetrics()

    def inputs(self, batch: Batch) -> Batch:
        made = self.padded(self.encode_all([(text,) for text in unpack_texts(batch["text"])]))
        if "pair" in batch:
            other = self.padded(self.encode_all([(text,) for text in unpack_texts(batch["pair"])]))
            made |= {f"pair_{name}": value for name, value in other.items()}
        return {**made, **{name: value for name, value in batch.items() if name not in ("text", "pair")}}

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        return [{"embedding": row} for row in embed(network, batch["tokens"], batch["mask"]).tolist()]


TASKS = {"sentence_embedding": SentenceEmbeddingConfig()}
