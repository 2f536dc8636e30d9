"""An epoch of a restricted Boltzmann machine on MNIST: 784 visible and 500 hidden units, batches of 100.

Both sides learn by persistent contrastive divergence with as many chains as a batch has samples, one Gibbs step each,
and plain gradient steps of 0.05: what scikit-learn's `BernoulliRBM.fit` does. Ours is the `Trainer` on a `Feed` with
its tripwires on and in the precision that "auto" takes here, and shuffles every epoch; the other takes the pictures as
they come, shuffled once before. The mean squared error of p(v|p(h|v)) after the first epoch tells whether both learn
alike.
Without the files of MNIST, pictures of the same size and sparsity.
"""

from typing import Any

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import NotRunError, Pace

HIDDEN, BATCH, RATE = 500, 100, 0.05
CHECKED = 2000  # pictures whose reconstruction is compared


def trainer(pace: Pace) -> None:
    """`layerwise.train.loop.Trainer` with `contrastive_divergence`."""
    import torch

    from bench.data_path import made_data
    from layerwise.data.examples import TensorExamples
    from layerwise.data.feed import Feed
    from layerwise.models.classic.rbm import RBM, RBMConfig
    from layerwise.objectives.contrastive_divergence import ContrastiveDivergence, ContrastiveDivergenceConfig
    from layerwise.optim.groups import parameter_groups
    from layerwise.optim.schedules import Constant, ConstantConfig
    from layerwise.optim.torch_optimizers import SGD, SGDConfig
    from layerwise.tasks.preprocessing import Normalise
    from layerwise.train.loop import Hooks, LoopSettings, PhasePlan, Trainer
    from layerwise.train.precision import resolve_precision

    torch.use_deterministic_algorithms(True)  # these three lines as `layerwise.train.build.build`
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_flush_denormal(True)
    images, _, note = made_data()
    torch.manual_seed(0)
    network = RBM(RBMConfig(in_channels=1, image_size=(28, 28), hidden_size=HIDDEN))
    objective = ContrastiveDivergence(ContrastiveDivergenceConfig(persistent=BATCH))
    objective.setup(network)
    to_unit = Normalise([0.0], [1.0])

    def inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"images": to_unit(batch["image"]), "sample_ids": batch["sample_ids"]}

    feed = Feed(TensorExamples({"image": images}), inputs, batch_size=BATCH)
    precision = resolve_precision("auto", torch.device("cpu"), network)

    class Paced(Hooks):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 1:
                pace.first()
            if trainer.step == feed.steps_per_epoch:
                with torch.no_grad():
                    seen = to_unit(images[:CHECKED]).flatten(1)
                    made = network.visible_probabilities(network.hidden_probabilities(seen))
                    pace.ready(float((seen - made).square().mean()), f"{note}, {precision}, hashed draws")
            elif trainer.step % feed.steps_per_epoch == 0:
                pace.window(len(images))

    named = list(network.named_parameters())
    optimizer = SGD(SGDConfig(lr=RATE, momentum=0.0), parameter_groups(named, weight_decay=0.0))
    plan = PhasePlan(name="main", parameters=named, optimizer=optimizer, schedule=Constant(ConstantConfig()).factor)
    settings = LoopSettings(max_steps=None, precision=precision)
    Trainer(network, objective, feed, [plan], settings, hooks=[Paced()]).fit()


def bernoulli_rbm(pace: Pace) -> None:
    """scikit-learn's `BernoulliRBM.fit` of one epoch on float32."""
    try:
        import numpy as np
        from sklearn.neural_network import BernoulliRBM
    except ImportError as error:
        raise NotRunError(f"{error.name} is not installed") from error
    from bench.data_path import made_data

    pictures, _, note = made_data()
    ordered = pictures.flatten(1).numpy().astype(np.float32) / 255
    images: Any = ordered[np.random.default_rng(0).permutation(len(ordered))]

    def epoch() -> Any:
        machine = BernoulliRBM(n_components=HIDDEN, batch_size=BATCH, n_iter=1, learning_rate=RATE, random_state=0)
        return machine.fit(images)

    pace.first()
    machine, seen = epoch(), ordered[:CHECKED]
    hidden = machine.transform(seen)
    made = 1 / (1 + np.exp(-(hidden @ machine.components_ + machine.intercept_visible_)))
    pace.ready(float(((seen - made) ** 2).mean()), f"{note}, {machine.components_.dtype}")
    while True:
        epoch()
        pace.window(len(images))


PEER = "scikit-learn BernoulliRBM"
SAMPLE = ("samples/s", 1.0)

WORKLOAD = Workload(
    title=f"an epoch of an RBM on MNIST, 784-{HIDDEN}, batches of {BATCH}, persistent contrastive divergence",
    unit="sample",
    launches=2,
    turns=3,
    contenders=(
        Contender(name=OURS, run="bench.rbm_epoch:trainer", rate=SAMPLE),
        Contender(name=PEER, run="bench.rbm_epoch:bernoulli_rbm", rate=SAMPLE),
    ),
    goals=(Goal(peers=(PEER,), kind="speedup", value=3.0),),
)
