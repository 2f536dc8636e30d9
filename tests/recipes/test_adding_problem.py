"""An LSTM learns the adding problem; over a few steps, in seconds."""

import torch

from layerwise.api.configure import configure
from layerwise.train.build import build


def test_an_lstm_adds_over_a_short_sequence() -> None:
    overrides = {"data.seq_len": 12, "data.train_size": 4000, "data.val_size": 200, "data.test_size": 10}
    overrides |= {"model.max_memory": 12, "model.hidden_size": 32, "epochs": 5, "optimizer.lr": 0.01}
    session = build(configure("adding_lstm", overrides.items()).recipe)
    session.trainer(0, 0, ()).fit()
    with torch.no_grad():
        found = session.evaluate("val", session.network)[0]
    assert found["mse"] < 1 / 6 / 10
