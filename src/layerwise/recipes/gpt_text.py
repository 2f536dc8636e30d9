"""A small GPT on a person's own corpus."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def gpt_text() -> Recipe:
    """GPT-2's form with two layers on documents of your own: `data.root` is a text file, a folder of them, a JSON
    Lines, CSV or Parquet file. Subwords are learned from them; rows hold whole documents, packed.
    """
    return Recipe(
        task=component("language_modelling", tokenizer="bpe", vocab_size=4000, seq_len=256, packed=True),
        model=component("gpt-mini"),
        data=component("text"),
        objective=component("autoregressive"),
        optimizer=component("Muon", lr=0.02, adamw_lr=3e-3, adamw_beta2=0.99, weight_decay=0.1),
        schedule=component("cosine", warmup_share=0.05),
        epochs=3,
        batch_size=16,
        clip=1.0,
        eval=Eval(batch_size=32),
    )
