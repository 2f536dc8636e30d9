"""Translation: a text in, a text of the same meaning in another language out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, PositiveInt
from layerwise.core.errors import ConfigError, DataError, MissingExtraError
from layerwise.data.examples import Examples, Splits
from layerwise.data.marian import MarianTokenizer
from layerwise.data.subword import TRANSLATION_SPECIALS, SubwordTokenizer
from layerwise.data.text_table import TextFile
from layerwise.data.texts import unpack_texts
from layerwise.data.tokenizers import Tokenizer
from layerwise.nn.beam_search import BeamSearch, beam_search
from layerwise.nn.protocols import Aligning
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.tasks.alignment_drawings import draw_alignment
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.language_modelling import token_losses
from layerwise.tasks.texts import TextTask, TokenOptions, load_text_tokenizer

_SHOWN = 12  # translations in the report
_ALIGNED = 3  # of which the report shows an alignment
_TOGETHER = 1024  # texts encoded at once


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """Options of translation.

    Args:
        tokenizer: "bpe", subwords learned from both sides of the training texts; or the directory, or hub id, of a
            tokeniser of subwords or a checkpoint that has one, Marian's too. With `init` it is the checkpoint's.
        vocab_size: tokens, special ones included, of subwords that are learned.
        max_tokens: a text's first so many tokens are read or written, the end included.
        beams: hypotheses that beam search keeps; 1 takes the likeliest token every time.
        length_penalty: exponent of the length that log-probabilities are divided by in the search.
    """

    tokenizer: str = "bpe"
    vocab_size: PositiveInt = 8000
    max_tokens: PositiveInt = 128
    beams: PositiveInt = 5
    length_penalty: NonNegativeFloat = 1.0


class TranslationMetrics(Accumulator):
    """Mean negative log-likelihood of a target token, BLEU and chrF of what beam search writes.

    BLEU (Papineni et al. 2002) is sacreBLEU's, cased, tokenised by "13a" (Post 2018, arXiv:1804.08771); chrF as in
    Popovic 2015, also sacreBLEU's.

    Args:
        task: searches and turns tokens into text.
    """

    def __init__(self, task: "Translation") -> None:
        self.task = task
        self.sums = {"nll": torch.zeros((), dtype=torch.float64), "count": torch.zeros((), dtype=torch.int64)}
        self.ids: list[int] = []
        self.texts: list[tuple[bytes, bytes, bytes]] = []  # source, reference, translation

    def update(self, network: nn.Module, batch: Batch) -> None:
        logits = network(source=batch["source"], tokens=batch["tokens"], source_mask=batch["source_mask"])
        self.sums["nll"] += token_losses(logits, batch["labels"]).double().sum().cpu()
        self.sums["count"] += (batch["labels"] != IGNORED).sum().cpu()
        self.ids += batch["sample_ids"].tolist()
        written = self.task.translate(network, batch)
        sources, references = (unpack_texts(batch[name]) for name in ("text", "target"))
        self.texts += zip(sources, references, [text.encode() for text in written], strict=True)

    def state(self) -> dict[str, Tensor]:
        flat = [text for texts in self.texts for text in texts]
        return {
            **self.sums,
            "ids": torch.tensor(self.ids, dtype=torch.int64),
            "lengths": torch.tensor([len(text) for text in flat], dtype=torch.int64),
            "bytes": torch.from_numpy(np.frombuffer(b"".join(flat), np.uint8).copy()),
        }

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = {name: torch.stack([state[name] for state in states]).sum(0) for name in self.sums}
        self.ids, self.texts = [], []
        for state in states:
            raw, ends = state["bytes"].numpy().tobytes(), state["lengths"].cumsum(0).tolist()
            flat = [raw[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            self.ids += state["ids"].tolist()
            self.texts += zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        self.ids, self.texts = [self.ids[i] for i in order], [self.texts[i] for i in order]

    def compute(self) -> dict[str, float]:
        count = int(self.sums["count"])
        if count == 0:
            return {}
        score = sacrebleu()
        references = [[reference.decode() for _, reference, _ in self.texts]]
        written = [translation.decode() for _, _, translation in self.texts]
        return {
            "loss": float(self.sums["nll"]) / count,
            "bleu": score.BLEU().corpus_score(written, references).score,
            "chrf": score.CHRF().corpus_score(written, references).score,
        }

    def table(self) -> dict[str, Any]:
        rows = [
            {"sample_id": i, "source": a.decode(), "reference": b.decode(), "translation": c.decode()}
            for i, (a, b, c) in zip(self.ids[:_SHOWN], self.texts[:_SHOWN], strict=True)
        ]
        return {"translations": rows, "count": len(self.texts)}


class Translation(TextTask):
    """Raw `text` and `target` to model inputs.

    `source` int64 [B, S] and `source_mask` bool [B, S] are the source's tokens, `tokens` int64 [B, T] the target behind
    a start token, `labels` [B, T] the target, -100 beyond it. The raw columns stay: metrics compare texts.
    """

    monitor = ("bleu", "max")

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__(TokenOptions(tokenizer=config.tokenizer, max_tokens=config.max_tokens))
        self.config = config
        self.languages: list[str] = []
        self._encoded: dict[tuple[bytes, bool], Tensor] = {}

    # -------------------------------------------------------------------------------------------------- what is learned

    @property
    def vocabulary(self) -> SubwordTokenizer | MarianTokenizer:
        """The tokeniser of both languages.

        Raises:
            ConfigError: it is one of words or bytes.
        """
        if not isinstance(self.tokenizer, SubwordTokenizer | MarianTokenizer):
            raise ConfigError(f"task=translation needs a tokeniser of subwords, got one of {self.tokenizer.unit}s.")
        return self.tokenizer

    def open(self, class_names: list[str], longest: int) -> None:
        super().open(class_names, longest)
        if isinstance(self.vocabulary, MarianTokenizer):
            self.languages = self.vocabulary.languages

    def bind(self, splits: Splits) -> None:
        part = next((each for each in (splits.train, splits.val, splits.test) if each is not None), None)
        if part is None or "target" not in (first := part.collate(torch.tensor([0]))) or "text" not in first:
            raise DataError("task=translation needs pairs of texts: data=multi30k, or data=parallel_text for your own.")
        self.file = TextFile.from_json(splits.extras["text_file"]) if "text_file" in splits.extras else TextFile()
        self.languages = list(splits.extras.get("languages", ("source", "target")))
        columns = [part.collate(ids) for ids in torch.arange(len(part)).split(_TOGETHER)]
        sides = [
            (raw.decode(), s == "target") for b in columns for s in ("text", "target") for raw in unpack_texts(b[s])
        ]
        if self._tokenizer is None:
            self.tokenizer = self._made([text for text, _ in sides])
        self._ends()
        longest = self.max_tokens - 1  # and the end
        cut = sum(len(text) > longest and len(self._tokens(text, target)) > longest for text, target in sides)
        if cut:
            splits.warnings.append(
                f"{cut} of {len(sides)} training texts have more than task.max_tokens={self.max_tokens} tokens: the "
                f"rest of each is not read."
            )

    def _made(self, texts: Sequence[str]) -> Tokenizer:
        """The tokeniser learned from texts, or that of a directory."""
        options = self.config
        if options.tokenizer != "bpe":
            return load_text_tokenizer(options.tokenizer, learned=("bpe",))
        return SubwordTokenizer.train(texts, kind="bpe", vocab_size=options.vocab_size, specials=TRANSLATION_SPECIALS)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "languages": self.languages}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.languages, self._encoded = state["languages"], {}

    def facts(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size}

    # ----------------------------------------------------------------------------------------------------------- inputs

    def encode(self, text: bytes, *, target: bool = False) -> Tensor:
        """A text's tokens and the end token, int64 [at most max_tokens]; kept, since every epoch asks again.

        Args:
            target: whether it is a translation, and not a source.
        """
        found = self._encoded.get((text, target))
        if found is None:
            tokens = self._tokens(text.decode(), target)[: self.max_tokens - 1]
            found = self._encoded[text, target] = F.pad(tokens, (0, 1), value=self._ends()[1])
        return found

    def _tokens(self, text: str, target: bool) -> Tensor:
        """Without special tokens around them, int64 [T]."""
        vocabulary = self.vocabulary
        if isinstance(vocabulary, MarianTokenizer):
            return vocabulary.encode(text, special=False, target=target)
        return vocabulary.encode(text, special=False)

    def inputs(self, batch: Batch) -> Batch:
        sources = [self.encode(text) for text in unpack_texts(batch["text"])]
        lengths = torch.tensor([len(row) for row in sources])
        made = {"source": _padded(sources, 0), "source_mask": torch.arange(int(lengths.max())) < lengths[:, None]}
        if "target" in batch:
            targets = [self.encode(text, target=True) for text in unpack_texts(batch["target"])]
            labels = _padded(targets, IGNORED)
            made["tokens"] = F.pad(labels[:, :-1], (1, 0), value=self._ends()[0]).clamp(min=0)
            made["labels"] = labels
        return {**batch, **made}

    def _ends(self) -> tuple[int, int]:
        """The tokens before and after a target.

        Raises:
            ConfigError: the tokeniser has no such tokens.
        """
        start, stop = self.vocabulary.bos_id, self.vocabulary.eos_id
        if start is None or stop is None:
            raise ConfigError(
                f"task.tokenizer={self.config.tokenizer} has no special tokens before and after a text, between which "
                "translations are written."
            )
        return start, stop

    def lengths(self, examples: Examples) -> Tensor:
        """Tokens of both sides of every example, int64 [N]."""
        found: list[int] = []
        for ids in torch.arange(len(examples)).split(_TOGETHER):
            batch = examples.collate(ids)
            sides = [
                [len(self.encode(text, target=name == "target")) for text in unpack_texts(batch[name])]
                for name in ("text", "target")
            ]
            found += map(sum, zip(*sides, strict=True))
        return torch.tensor(found, dtype=torch.int64)

    # ------------------------------------------------------------------------------------------------------ translating

    def accumulator(self) -> TranslationMetrics:
        return TranslationMetrics(self)

    def search(self) -> BeamSearch:
        """The settings of beam search."""
        (start, stop), vocabulary = self._ends(), self.vocabulary
        filling = {vocabulary.pad_id} if isinstance(vocabulary, MarianTokenizer) else set[int]()
        return BeamSearch(
            start_token=start,
            stop_token=stop,
            beams=self.config.beams,
            max_new_tokens=self.max_tokens,
            length_penalty=self.config.length_penalty,
            never=tuple(filling - {stop}),
        )

    def translate(self, network: nn.Module, batch: Batch) -> list[str]:
        """The best translation of every source."""
        found = beam_search(network, batch["source"], batch["source_mask"], self.search())
        return [self.vocabulary.decode(hypotheses[0].tokens) if hypotheses else "" for hypotheses in found]

    @torch.no_grad()
    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Which source tokens each token of a few translations was written from, where the network says so."""
        examples = None if splits is None else splits.val or splits.train
        if examples is None or not isinstance(network, Aligning):
            return []
        batch = self.inputs(examples.collate(torch.arange(min(_ALIGNED, len(examples)))))
        found = beam_search(network, batch["source"], batch["source_mask"], self.search())
        made: list[tuple[str, Path]] = []
        for i, hypotheses in enumerate(found):
            if not hypotheses:
                continue
            there = batch["source_mask"][i]
            source, target = batch["source"][i : i + 1, there], hypotheses[0].tokens[None]
            read = F.pad(target[:, :-1], (1, 0), value=self._ends()[0])
            weights = network.align(source, read, None)[0]
            read_names, written_names = ([self._name(t) for t in row[0].tolist()] for row in (source, target))
            path = draw_alignment(weights, read_names, written_names, folder / f"alignment-{i}.png")
            made.append((f"Where the translation of example {i} looks while it is written, row by row.", path))
        return made

    def _name(self, token: int) -> str:
        """A token's text; the end token's name."""
        return self.vocabulary.decode([token]).strip() or str(self.vocabulary.token(token))

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        found = beam_search(network, batch["source"], batch["source_mask"], self.search())
        rows: list[dict[str, Any]] = []
        for hypotheses in found:
            texts = [self.vocabulary.decode(each.tokens) for each in hypotheses]
            ranked = {text: each.score for text, each in reversed(list(zip(texts, hypotheses, strict=True)))}
            rows.append({"translation": texts[0], "scores": dict(sorted(ranked.items(), key=lambda pair: -pair[1]))})
        return rows


def sacrebleu() -> Any:
    """The metrics of sacreBLEU.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from sacrebleu import metrics  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "text", "BLEU and chrF") from error
    return metrics


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    """[B, longest], filled up at the end."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


TASKS = {"translation": TranslationConfig()}
