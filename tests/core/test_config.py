"""The strict configuration: types, ranges, suggestions, swaps."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest

from layerwise.api.configure import configure, flatten, load_recipe, recipe_names
from layerwise.core import discovery
from layerwise.core.config import (
    Component,
    Kind,
    PictureSize,
    PositiveInt,
    Range,
    apply_overrides,
    component,
    merge,
    parse,
    parse_component,
    read_yaml,
    to_tree,
    write_yaml,
)
from layerwise.core.errors import ConfigError
from layerwise.core.suggest import edit_distance, nearest


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: PositiveInt = 4
    rate: Annotated[float, Range(0, 1, open_high=True)] = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    name: str | None = None
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] | None = None
    table: dict[str, float] | None = None
    picture: PictureSize | None = None
    optimizer: Annotated[Component, Kind("optimizer")] = Component("AdamW")


@pytest.mark.parametrize(
    ("tree", "path", "value"),
    [
        ({"inner": {"width": "7"}}, "inner.width", 7),
        ({"inner": {"rate": "1e-3"}}, "inner.rate", 1e-3),
        ({"inner": {"width": "1e2"}}, "inner.width", 100),
        ({"name": "no"}, "name", "no"),
        ({"name": "null"}, "name", None),
        ({"flag": "no"}, "flag", False),
        ({"sizes": "3,4,5"}, "sizes", (3, 4, 5)),
        ({"sizes": "[3, 4]"}, "sizes", (3, 4)),
        ({"sizes": []}, "sizes", ()),
        ({"picture": "32"}, "picture", (32, 32)),
        ({"picture": 32}, "picture", (32, 32)),
        ({"picture": "24,32"}, "picture", (24, 32)),
        ({"picture": "[24, 32]"}, "picture", (24, 32)),
        ({"picture": "none"}, "picture", None),
        ({"pair": ["1", "2.5"]}, "pair", (1, 2.5)),
        ({"table": "{x: 1e-2}"}, "table", {"x": 0.01}),
        ({"inner": "{width: 9}"}, "inner.width", 9),
    ],
)
def test_values_are_read_by_the_targets_type(tree: dict[str, Any], path: str, value: Any) -> None:
    found: Any = parse(Outer, tree)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"inner": {"width": "0"}}, ("inner.width=0", "a whole number >= 1")),
        ({"inner": {"width": "2.5"}}, ("inner.width=2.5", "a whole number")),
        ({"inner": {"width": True}}, ("inner.width=True", "a whole number")),
        ({"inner": {"rate": "1"}}, ("inner.rate=1", ">= 0 and < 1")),
        ({"inner": {"rate": "fast"}}, ("inner.rate=fast", "a number")),
        ({"inner": {"rate": "nan"}}, ("inner.rate=nan",)),
        ({"flag": "maybe"}, ("flag=maybe", "true or false")),
        ({"mode": "c"}, ("mode=c", "'a' or 'b'")),
        ({"sizes": "1,x"}, ("sizes.1=x", "a whole number")),
        ({"pair": "1"}, ("pair", "a list of 2 values")),
        ({"picture": "0"}, ("picture=0", "a whole number >= 1")),
        ({"picture": "big"}, ("picture=big", "a whole number >= 1")),
        ({"picture": "1,2,3"}, ("picture=1,2,3", "a list of 2 values")),
        ({"inner": "3"}, ("inner=3", "a mapping")),
        ({"optimizer": "AdmW"}, ("optimizer=AdmW", "'AdamW'")),
        ({"optimizer": {"name": "SGD", "momentun": 1}}, ("optimizer.momentun", "'momentum'")),
    ],
)
def test_wrong_values_name_field_value_and_rule(tree: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, tree)
    for word in words:
        assert word in str(caught.value)


def picture_sizes() -> list[str]:
    """Every component of the package with a `size` of pictures."""
    data = [f"data.{name}" for name in discovery.catalogue("data") if name != "shapes"]  # squares only
    named = [*data, *(f"transform.{name}" for name in discovery.catalogue("transform"))]
    return [name for name in named if hasattr(discovery.spec(*name.split(".")).defaults, "size")]


@pytest.mark.parametrize("name", picture_sizes())
def test_one_number_is_a_square_wherever_pictures_have_a_size(name: str) -> None:
    kind, _, component_name = name.partition(".")
    assert parse_component(kind, {"name": component_name, "size": "40"}, kind).config.size == (40, 40)
    assert parse_component(kind, {"name": component_name, "size": "40,48"}, kind).config.size == (40, 48)


def test_yaml_text_gives_the_same_values_back() -> None:
    value = parse(
        Outer, {"name": "1e-3", "inner": {"rate": 0.1}, "optimizer": {"name": "SGD", "lr": 1e-7}, "table": {"a": 1.5}}
    )
    assert to_tree(parse(Outer, read_yaml(write_yaml(to_tree(value)), "x"))) == to_tree(value)


def test_a_key_given_twice_in_yaml_is_an_error_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"x, line 2: key 'a' is given twice"):
        read_yaml("a: 1\na: 2\n", "x")


def test_a_swap_resets_the_subtree_and_says_what_it_dropped() -> None:
    notes: list[str] = []
    tree = apply_overrides({"optimizer": {"name": "AdamW", "lr": 0.1, "beta1": 0.8}}, [("optimizer", "SGD")], notes)
    assert tree == {"optimizer": {"name": "SGD"}}
    assert "optimizer.lr" in notes[0]
    assert "optimizer.beta1" in notes[0]


def test_deeper_overrides_apply_after_swaps_whatever_their_order() -> None:
    tree = apply_overrides(
        {"optimizer": {"name": "AdamW", "lr": 0.1}}, [("optimizer.lr", "0.5"), ("optimizer", "SGD")], []
    )
    assert parse(Outer, tree).optimizer.config.lr == 0.5
    assert parse(Outer, tree).optimizer.name == "SGD"


def test_setting_the_name_swaps_too() -> None:
    tree = apply_overrides(
        {"optimizer": {"name": "AdamW", "beta1": 0.5}}, [("optimizer.name", "SGD"), ("optimizer.momentum", "0.5")], []
    )
    assert parse(Outer, tree).optimizer.config.momentum == 0.5


def test_list_entries_are_addressed_by_name_or_number() -> None:
    tree = {"phases": [{"name": "d", "every": 1}, {"name": "g", "every": 1}]}
    assert apply_overrides(tree, [("phases.g.every", 2)], [])["phases"][1]["every"] == 2
    assert apply_overrides(tree, [("phases.0.every", 3)], [])["phases"][0]["every"] == 3
    with pytest.raises(ConfigError, match="no entry 'h'"):
        apply_overrides(tree, [("phases.h.every", 2)], [])


def test_an_overlay_merges_and_a_component_of_another_name_replaces() -> None:
    base = {"optimizer": {"name": "AdamW", "lr": 1}, "seed": 0}
    assert merge(base, {"optimizer": {"lr": 2}}, []) == {"optimizer": {"name": "AdamW", "lr": 2}, "seed": 0}
    assert merge(base, {"optimizer": {"name": "SGD"}}, [])["optimizer"] == {"name": "SGD"}
    assert merge(base, {"optimizer": "SGD"}, [])["optimizer"] == {"name": "SGD"}


def test_edit_distance_counts_a_swap_of_neighbours_as_one() -> None:
    assert edit_distance("epcohs", "epochs") == 1
    assert edit_distance("kitten", "sitting") == 3
    assert nearest("batchsize", ["batch_size", "seed"]) == ["batch_size"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_of_a_recipe_with_one_letter_wrong_is_refused_with_the_right_one(name: str) -> None:
    keys = flatten(configure(name).tree)
    for dotted in keys:
        for at, part in enumerate(parts := dotted.split(".")):
            if part.isdigit():
                continue
            wrong = part[:-1] + ("q" if part[-1] != "q" else "z")
            changed = ".".join([*parts[:at], wrong, *parts[at + 1 :]])
            with pytest.raises(ConfigError) as caught:
                configure(name, [(changed, keys[dotted])])
            assert repr(part) in str(caught.value), f"{changed}: {caught.value}"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_and_its_yaml_runs_again(name: str, tmp_path: Any) -> None:
    configured = configure(name)
    (tmp_path / "again.yaml").write_text(configured.yaml())
    assert configure(str(tmp_path / "again.yaml")).tree == configured.tree


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'lenet5'"):
        load_recipe("lenet6")


def test_an_overlay_file_names_its_recipe(tmp_path: Any) -> None:
    (tmp_path / "mine.yaml").write_text("recipe: lenet5\noptimizer: {name: Muon, lr: 0.02}\nepochs: 3\n")
    configured = configure(str(tmp_path / "mine.yaml"), [("epochs", "5")])
    assert (configured.recipe.optimizer.name, configured.recipe.optimizer.config.lr, configured.recipe.epochs) == (
        "Muon",
        0.02,
        5.0,
    )


def test_code_of_ones_own_in_a_run_needs_trust(tmp_path: Any) -> None:
    tree = to_tree(configure("lenet5").tree) | {"model": {"name": "somewhere:Net"}}
    (tmp_path / "config.yaml").write_text(write_yaml(tree))
    (tmp_path / "env.json").write_text("{}")
    with pytest.raises(ConfigError, match="--trust-code"):
        configure(str(tmp_path))


def test_an_entry_of_a_preset_s_list_is_changed_by_its_number() -> None:
    changed = configure("mcculloch_pitts_and", [("model.layers.0.0.threshold", "1")]).recipe.model.config
    plain = configure("mcculloch_pitts_and").recipe.model.config
    assert changed.layers[0][0].threshold == 1
    assert changed.layers[0][0].excitatory == plain.layers[0][0].excitatory
    with pytest.raises(ConfigError, match=r"no entry '7'"):
        configure("mcculloch_pitts_and", [("model.layers.7.0.threshold", "1")])


def test_a_part_that_only_the_preset_names_is_changed_by_its_options() -> None:
    """The recipe names the model, the preset names the model's parts, and a part's own preset has the other options."""
    changed = configure("latent_diffusion", [("model.text_encoder.vocab_size", "300")]).recipe.model.config
    plain = configure("latent_diffusion").recipe.model.config
    assert changed.text_encoder.name == plain.text_encoder.name == "clip-text-small"
    assert changed.text_encoder.config == replace(plain.text_encoder.config, vocab_size=300)
    assert (changed.vae, changed.unet) == (plain.vae, plain.unet)


def test_a_part_s_own_options_of_a_preset_stand_beside_those_changed() -> None:
    overrides = [("model", "latent-diffusion-tiny"), ("model.vae.num_groups", "2")]
    vae = configure("latent_diffusion", overrides).recipe.model.config.vae.config
    assert (vae.latent_channels, vae.num_groups) == (4, 2)  # the preset's own, the change


def test_a_part_that_is_named_starts_from_its_own_defaults() -> None:
    """`latent-diffusion-tiny` changes an option of its autoencoder; a person who names one gets it as it is."""
    overrides = [("model", "latent-diffusion-tiny"), ("model.vae", "autoencoder-kl-tiny")]
    vae = configure("latent_diffusion", overrides).recipe.model.config.vae.config
    assert vae == parse_component("model", "autoencoder-kl-tiny", "model").config
    assert (
        vae.latent_channels
        != configure("latent_diffusion", overrides[:1]).recipe.model.config.vae.config.latent_channels
    )


def test_a_wrong_key_of_a_part_that_only_the_preset_names_is_refused_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"model\.text_encoder\.vocab_sise.*'vocab_size'"):
        configure("latent_diffusion", [("model.text_encoder.vocab_sise", "300")])


def test_an_entry_of_a_preset_s_list_of_components_is_changed_by_its_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Training:
        optimizers: tuple[Annotated[Component, Kind("optimizer")], ...] = (
            component("AdamW", lr=0.5, beta1=0.7),
            component("SGD"),
        )

    adam, sgd = parse(Training, {"optimizers": {"AdamW": {"lr": "0.25"}}}).optimizers
    assert (adam.config.lr, adam.config.beta1, sgd.name) == (0.25, 0.7, "SGD")
