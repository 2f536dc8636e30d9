"""Language modelling: tokens in, scores of the next token out; text in and out through the data's tokeniser."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.checks import named_parts
from layerwise.data.examples import Examples, Splits
from layerwise.data.packing import FILLING, PackedDocuments
from layerwise.data.subword import Specials, SubwordTokenizer
from layerwise.data.token_store import StoredTokens, StoredWindows, all_pieces, chosen_texts, tokenised
from layerwise.data.token_windows import TokenWindows
from layerwise.data.tokenizers import ByteTokenizer, CharTokenizer, SpacedTokenizer, Tokenizer, tokenizer_from
from layerwise.nn.protocols import Recurrent, VocabularyHead, require, vocabulary_weights
from layerwise.nn.recurrent import CarriedStates
from layerwise.objectives.truncated_bptt import TruncatedBPTTConfig
from layerwise.ops.linear_cross_entropy import IGNORED, chunk_size, linear_token_losses
from layerwise.tasks.base import Accumulator, Batch, Task
from layerwise.tasks.texts import load_text_tokenizer

_HARDEST = 8  # windows kept for the report
_LEARNED = ("chars", "bytes", "words", "bpe", "wordpiece", "unigram")
_LEARNED_FROM = 32_000_000  # characters of training text at most that subwords are learned from
_SPECIALS = {"bpe": Specials(bos="<|endoftext|>", eos="<|endoftext|>"), "unigram": Specials(unk="<unk>", eos="</s>")}


@dataclass(frozen=True, kw_only=True)
class LanguageModellingConfig:
    """Options of language modelling.

    Args:
        tokenizer: "chars": one token a character that occurs in the data; "bytes" of its UTF-8; "words" of the training
            texts between blanks, and line ends; subwords learned from the training texts by "bpe", "wordpiece" or
            "unigram"; or the directory, or hub id, of a tokeniser or a checkpoint that has one. With `init` it is the
            checkpoint's.
        vocab_size: of subwords that are learned.
        min_count: words that the training texts have more rarely share one token, <unk>, with those that they lack.
        seq_len: tokens a window; each is input and, but for the first, target.
        stride: tokens from the start of a training window to the next; None means `seq_len`: an epoch is one pass over
            the text. Smaller strides give windows that overlap, and 1 every possible window (an epoch is then `seq_len`
            times as long).
        packed: rows hold whole documents, which do not see one another, in place of windows of all texts behind one
            another; the network must take `documents`. Documents longer than `seq_len` are cut.
        shown_tokens: most likely next tokens that `predict` tells with their probabilities.
    """

    tokenizer: str = "chars"
    vocab_size: PositiveInt = 8000
    min_count: PositiveInt = 2
    seq_len: PositiveInt = 128
    stride: PositiveInt | None = None
    packed: bool = False
    shown_tokens: PositiveInt = 10

    def __post_init__(self) -> None:
        if self.packed and self.stride is not None:
            raise ConfigError(
                f"task.stride={self.stride} and task.packed=true: packed documents are no windows. Leave one out."
            )


class LanguageMetrics(Accumulator):
    """Mean negative log-likelihood of the targets in nats, its exponential, and bits a character or byte.

    Args:
        tokenizer: names the unit and turns the hardest windows back into text.
        streams: windows come in order, streams side by side: a recurrent network goes on from where it was.
    """

    def __init__(self, tokenizer: Tokenizer, *, streams: bool = False) -> None:
        self.tokenizer, self.streams = tokenizer, streams
        self._carried: CarriedStates | None = None
        self.sums = {"nll": torch.zeros((), dtype=torch.float64), "count": torch.zeros((), dtype=torch.int64)}
        self.windows: dict[str, Tensor] = {}  # mean loss [n], ids [n], input tokens and targets [n, T + 1]

    def update(self, network: nn.Module, batch: Batch) -> None:
        losses = self._read_on(network, batch) if self.streams else _losses(network, batch)
        targets, documents = batch["labels"] != IGNORED, batch.get("documents")
        self.sums["nll"] += losses.double().sum().cpu()
        self.sums["count"] += targets.sum().cpu()
        labels = batch["labels"].where(targets, batch["tokens"].roll(-1, dims=1))
        fresh = {
            "loss": losses.double().sum(1) / targets.sum(1).clamp(min=1),
            "ids": batch["sample_ids"],
            "tokens": torch.cat([batch["tokens"][:, :1], labels], dim=1),
            "length": 1 + targets.sum(1) if documents is None else (documents != FILLING).sum(1),
        }
        self._keep_hardest([self.windows, {name: value.cpu() for name, value in fresh.items()}])

    def _read_on(self, network: nn.Module, batch: Batch) -> Tensor:
        """The losses of windows whose past is what was read before."""
        starts = batch["sample_ids"]
        cache = require(network, Recurrent, "evaluation of a text as a whole").init_cache(len(starts))
        if self._carried is None:
            self._carried = CarriedStates()
            self._carried.setup(cache.state)
        self._carried.resume(starts, cache)
        losses = _losses(network, batch, cache=cache)
        left = (part.transpose(0, 1) for part in cache.state)
        self._carried.keep(starts, starts + batch["tokens"].shape[1], *left)
        return losses

    def _keep_hardest(self, parts: Sequence[dict[str, Tensor]]) -> None:
        parts = [part for part in parts if part]
        if parts:
            rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            order = rows["ids"].argsort()  # so that equal losses are ordered alike however the split was shared out
            order = order[rows["loss"][order].argsort(descending=True, stable=True)][:_HARDEST]
            self.windows = {name: value[order] for name, value in rows.items()}

    def state(self) -> dict[str, Tensor]:
        return {**self.sums, **self.windows}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = {name: torch.stack([state[name] for state in states]).sum(0) for name in self.sums}
        windows = [{k: v for k, v in state.items() if k not in self.sums} for state in states]
        self.windows = {}
        self._keep_hardest(windows)

    def compute(self) -> dict[str, float]:
        count = int(self.sums["count"])
        if count == 0:
            return {}
        loss = float(self.sums["nll"]) / count
        return {"loss": loss, "perplexity": _perplexity(loss), f"bits_per_{self.tokenizer.unit}": loss / math.log(2)}

    def table(self) -> dict[str, Any]:
        names = ("ids", "loss", "tokens", "length")
        rows = zip(*(self.windows[name].tolist() for name in names), strict=True) if self.windows else ()
        hardest = [
            {"sample_id": i, "loss": loss, "text": self.tokenizer.decode(tokens[:length])}
            for i, loss, tokens, length in rows
        ]
        return {"hardest_texts": hardest, "count": int(self.sums["count"])}


class LanguageModelling(Task):
    """Texts of any data set as model input `tokens` int64 [B, T] with `labels` [B, T], and `documents` [B, T] where
    documents are packed; the network gives logits [B, T, V].
    """

    monitor = ("loss", "min")
    predicts = "text"
    keeps_state = True

    def __init__(self, config: LanguageModellingConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into tokens."""
        if self._tokenizer is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._tokenizer

    def bind(self, splits: Splits) -> None:
        """Make tokens of the texts: the examples of `splits` become windows, or rows of packed documents.

        Raises:
            DataError: the data has no texts, a text has characters that a loaded tokeniser lacks, or there is too
                little text.
        """
        parts: dict[str, tuple[Sequence[str], Tensor | None]] = {}
        for name, part in named_parts(splits):
            found = chosen_texts(part)
            if found is None:
                raise DataError("task=language_modelling needs texts: data=text and data.root=PATH for your own.")
            parts[name] = found
        if self._tokenizer is None:
            self._tokenizer = self._learned(parts)
        made: dict[int, StoredTokens] = {}  # parts that were drawn from the same texts share their tokens
        for name, (texts, chosen) in parts.items():
            if id(texts) not in made:
                made[id(texts)] = tokenised(texts, self.tokenizer, framed=self.config.packed)
            setattr(splits, name, self._rows(made[id(texts)], chosen, name))
        if isinstance(self.tokenizer, SpacedTokenizer):
            stored = {name: (made[id(texts)], chosen) for name, (texts, chosen) in parts.items()}
            splits.warnings.append(_unknown_words(self.tokenizer, stored))

    def _learned(self, parts: dict[str, tuple[Sequence[str], Tensor | None]]) -> Tokenizer:
        kind = self.config.tokenizer
        if kind == "bytes":
            return ByteTokenizer()
        if kind == "chars":
            every = {id(texts): texts for texts, _ in parts.values()}.values()
            return CharTokenizer.learn(piece for each in every for piece in (*all_pieces(each), *_line_feed(each)))
        texts, chosen = parts.get("train") or next(iter(parts.values()))
        if kind == "words":
            return self._words(all_pieces(texts, chosen))
        if kind in ("bpe", "wordpiece", "unigram"):
            pieces = all_pieces(texts, chosen, most=_LEARNED_FROM)
            specials, size = _SPECIALS.get(kind), self.config.vocab_size
            return SubwordTokenizer.train(pieces, kind=kind, vocab_size=size, specials=specials, wrap="none")
        return load_text_tokenizer(kind, _LEARNED)

    def _words(self, texts: Iterable[str]) -> Tokenizer:
        tokenizer, least = SpacedTokenizer.learn(texts, min_count=self.config.min_count), self.config.min_count
        if tokenizer.words == ["\n"]:
            raise DataError(
                f"task.tokenizer=words: no word between blanks occurs task.min_count={least} times in the training "
                "texts. Take task.tokenizer=chars or bpe, or a lower task.min_count."
            )
        return tokenizer

    def _rows(self, store: StoredTokens, chosen: Tensor | None, part: str) -> Examples:
        seq_len, stride = self.config.seq_len, self.config.stride if part == "train" else None
        if self.config.packed:
            return PackedDocuments(store, seq_len, chosen=chosen)
        length = store.length(chosen)
        if length < (least := seq_len + 1 if part == "train" else 2):
            raise DataError(
                f"The {part} text is too short: {length} tokens, at least {least} are needed. Give more text or a "
                f"task.seq_len below {seq_len}."
            )
        if store.mapped:
            return StoredWindows(store, seq_len, stride, chosen=chosen)
        return TokenWindows(torch.from_numpy(store.joined(chosen)), seq_len, stride)

    def bind_objective(self, objective: Any) -> None:
        self.streams = isinstance(objective, TruncatedBPTTConfig)

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.state(), "streams": self.streams}

    def load(self, state: dict[str, Any]) -> None:
        self._tokenizer, self.streams = tokenizer_from(state["tokenizer"]), state.get("streams", False)

    def facts(self) -> dict[str, Any]:
        return {
            "vocab_size": self.tokenizer.vocab_size,
            "max_seq_len": self.config.seq_len,
            "packed": self.config.packed,
        }

    def accumulator(self) -> LanguageMetrics:
        return LanguageMetrics(self.tokenizer, streams=self.streams)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        found: list[tuple[str, Batch]] = []
        for text in inputs:
            tokens = self.encode_prompt(text)[None]
            labels = F.pad(tokens[:, 1:], (0, 1), value=IGNORED)
            found.append((text, {"tokens": tokens, "labels": labels}))
        return found

    @torch.no_grad()
    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """For each text the most likely next tokens, and its own loss in nats a token after the first.

        A text longer than the network's `max_seq_len` is read in windows of that length.
        """
        tokens, labels = batch["tokens"], batch["labels"]
        window = min(getattr(network, "max_seq_len", tokens.shape[1]), tokens.shape[1])
        parts = zip(tokens.split(window, dim=1), labels.split(window, dim=1), strict=True)
        nll = torch.stack([token_losses(network(x), y).double().sum(1) for x, y in parts]).sum(0)
        counts = (labels != IGNORED).sum(1)
        scores = network(tokens[:, -window:])[:, -1].float().softmax(-1)
        best = scores.topk(min(self.config.shown_tokens, scores.shape[-1]))
        rows: list[dict[str, Any]] = []
        for i, (values, indices) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            names = [self._name(token) for token in indices]
            loss = float(nll[i] / counts[i]) if counts[i] else None
            perplexity = None if loss is None else _perplexity(loss)
            ranked = dict(zip(names, values, strict=True))
            rows.append({"label": names[0], "loss": loss, "perplexity": perplexity, "scores": ranked})
        return rows

    def encode_prompt(self, prompt: str | None) -> Tensor:
        """Tokens of a prompt, int64 [T]; None stands for what a text begins after: the token between texts where there
        is one, else a line's end.

        Raises:
            DataError: it is empty, has characters that the tokeniser lacks, or no words where these are the tokens.
        """
        if prompt is None and self.stop_token is not None:
            return torch.tensor([self.stop_token])
        if prompt is None:
            try:
                return self.tokenizer.encode("\n")
            except DataError:
                return torch.zeros(1, dtype=torch.int64)  # an alphabet without line ends: its first character
        if not prompt:
            raise DataError("The text is empty: at least one character is needed.")
        if isinstance(self.tokenizer, SubwordTokenizer):
            return self.tokenizer.encode(prompt, special=False)
        tokens = self.tokenizer.encode(prompt)
        if not len(tokens):
            raise DataError("The text has no words: at least one is needed.")
        return tokens

    @property
    def stop_token(self) -> int | None:
        """The token that ends a text, where there is one."""
        return self.tokenizer.eos_id if isinstance(self.tokenizer, SubwordTokenizer) else None

    def decode_tokens(self, tokens: Tensor) -> str:
        """The text of tokens [T]."""
        return self.tokenizer.decode(tokens)

    def _name(self, token: int) -> str:
        """A token as a key of JSON: its text, bytes that are no text of their own as 0x.."""
        if self.tokenizer.unit == "byte" and token > 126:
            return f"0x{token:02x}"
        text = self.tokenizer.decode([token])
        if isinstance(self.tokenizer, SubwordTokenizer) and ("\ufffd" in text or not text):
            return self.tokenizer.token(token) or text  # part of a character, or a special token
        return text


def _unknown_words(tokenizer: SpacedTokenizer, parts: Mapping[str, tuple[StoredTokens, Tensor | None]]) -> str:
    """How much of each part is unknown words, which makes a text easier to predict."""
    shares = {
        name: store.count(tokenizer.unknown, chosen) / max(1, store.length(chosen))
        for name, (store, chosen) in parts.items()
    }
    told = ", ".join(f"{100 * share:.1f} % of {name}" for name, share in shares.items())
    return (
        f"Words that are not among the {len(tokenizer.words):,} of the training texts count as one, <unk>: {told}. "
        "Perplexities of other lists of words cannot be compared with this one's."
    )


def _line_feed(texts: Sequence[str]) -> str:
    """What stands between documents, where there are several."""
    return "\n" if len(texts) > 1 else ""


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each target [B, T] in float32 at least; zero where there is none.

    Args:
        logits: [B, T, V].
        labels: int64 [B, T], -100 where there is no target.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none").view_as(labels)


def _losses(network: nn.Module, batch: Batch, **more: Any) -> Tensor:
    """`token_losses` of a network; those of a large vocabulary are taken a part of the logits at a time."""
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
    inputs |= more
    labels = batch["labels"]
    weights = vocabulary_weights(network)
    if weights is not None and labels.numel() * len(weights[0]) > chunk_size(weights[0]):
        assert isinstance(network, VocabularyHead)
        features = network.forward_features(**inputs).flatten(0, 1)
        return linear_token_losses(features, weights[0], labels.flatten(), weights[1]).view_as(labels)
    logits = network(**inputs)
    return token_losses(logits[0] if isinstance(logits, tuple) else logits, labels)


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


TASKS = {"language_modelling": LanguageModellingConfig()}
