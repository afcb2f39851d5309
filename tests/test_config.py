from __future__ import annotations

import json
import math
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from automl.config import (
    METRICS,
    PARAMETERS,
    BackboneChoice,
    DataConfig,
    Range,
    RunConfig,
    SearchConfig,
    TrainingConfig,
    dump_config,
    load_config,
    parse_config,
    parse_duration,
    schema,
)
from automl.errors import ConfigError

SPACES = Path(__file__).parent.parent / "search_spaces"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "space.yaml")
    assert str(caught.value).splitlines() == caught.value.problems, "each mistake is one line"
    return caught.value.problems


# --- what a file says is what comes out -----------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    [
        "no",
        "yes",
        "1e5",
        "0x1F",
        "null",
        "~",
        "none",
        "2026-01-01",
        ": ",
        "- a",
        "#",
        "'",
        '"',
        "\n\n",
        "\x85",
        "\ufeff",
    ]
)


def parameter_values(name: str) -> st.SearchStrategy[Any]:
    parameter = PARAMETERS[name]
    if parameter.kind is str:
        one: st.SearchStrategy[Any] = st.sampled_from(parameter.choices)
    elif parameter.kind is int:
        one = st.integers(int(parameter.low) // 2 * 2, int(min(parameter.high, 512))).map(lambda n: n // 2 * 2)
        one = one.filter(lambda n: n >= parameter.low)
    else:
        one = st.floats(parameter.low, parameter.high)
    values = one | st.lists(one, min_size=1, max_size=4, unique=True)
    if parameter.kind is str or name == "batch_size":
        return values
    ends = st.tuples(one, one).filter(lambda pair: pair[0] < pair[1])
    if name == "resolution":  # the pixels of every resolution of a range are cached, so it has a step
        return values | ends.map(lambda pair: Range(low=pair[0], high=pair[1], step=2))
    return values | st.builds(
        lambda pair, log: Range(low=pair[0], high=pair[1], log=log and pair[0] > 0), ends, st.booleans()
    )


@st.composite
def configs(draw: st.DrawFn) -> SearchConfig:
    names = draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
    weights = st.none() | st.just("none") | WORDS.filter(lambda word: "\0" not in word and word != "none").map(Path)
    chosen = draw(st.lists(st.sampled_from(sorted(PARAMETERS)), unique=True, max_size=6))
    positive = st.floats(min_value=1e-3, max_value=1e9)
    return SearchConfig(
        description=draw(WORDS),
        dataset=draw(st.none() | WORDS),
        backbones=[BackboneChoice(name=name, weights=draw(weights), pinned=draw(st.booleans())) for name in names],
        params={name: draw(parameter_values(name)) for name in chosen},
        training=TrainingConfig(
            epochs=draw(st.integers(2, 100)),
            warmup_epochs=draw(st.floats(0, 1)),
            ema_decay=draw(st.floats(0, 0.999)),
            clip_grad=draw(st.none() | positive),
        ),
        search=RunConfig(
            metric=draw(st.sampled_from(METRICS)),  # type: ignore[arg-type]
            budget=draw(positive),
            trials=draw(st.none() | st.integers(1, 1000)),
            concurrency=draw(st.just("auto") | st.integers(1, 64)),  # type: ignore[arg-type]
            gpus_per_trial=draw(st.just("auto") | st.floats(0, 8)),  # type: ignore[arg-type]
            storage=draw(st.none() | WORDS),
        ),
        data=DataConfig(
            background=draw(st.tuples(*[st.integers(0, 255)] * 3)), test_fraction=draw(st.floats(0.01, 0.7))
        ),
    )


@settings(max_examples=80, deadline=None)
@given(configs())
def test_a_config_survives_its_own_file(config: SearchConfig) -> None:
    assert parse_config(dump_config(config), "resolved.yaml") == config


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_search_spaces_of_the_project_are_read_and_survive(path: Path) -> None:
    config = load_config(path)
    assert parse_config(dump_config(config), "resolved.yaml") == config


def test_what_a_file_leaves_out_takes_its_default() -> None:
    config = parse_config("backbones: [timm/resnet50]", "space.yaml")
    assert config == SearchConfig(backbones=[BackboneChoice(name="timm/resnet50")])
    assert config.params == {}


def test_yaml_is_1_2() -> None:
    config = parse_config(
        "backbones: [no, {name: off, weights: none}]\n"
        "params: {learning_rate: {low: 1e-5, high: 1E-2, log: true}, weight_decay: [1e-4, 5e-2]}\n"
        "search: {seed: 0o17, budget: 1:30}\n".replace("budget: 1:30", "budget: 90"),
        "space.yaml",
    )
    assert [each.name for each in config.backbones] == ["no", "off"]
    assert config.backbones[1].weights == "none"
    assert config.params["learning_rate"] == Range(low=1e-5, high=1e-2, log=True)
    assert config.params["weight_decay"] == [1e-4, 5e-2]
    assert config.search.seed == 15


def test_values_are_plain_python() -> None:
    config = parse_config("backbones: [a]\nparams: {dropout: 0.5, optimizer: 'sgd', batch_size: [16, 32]}", "s")
    values = [config.params["dropout"], config.params["optimizer"], *config.params["batch_size"]]  # type: ignore[misc]
    assert [type(value) for value in values] == [float, str, int, int]


# --- what is wrong is named, with its line --------------------------------------------------------------------------

MISTAKES = [
    ("backbonse: [a]", 1, 'backbonse: unknown key "backbonse": did you mean "backbones"?'),
    ("zzz: 1", 1, 'zzz: unknown key "zzz"; expected one of description, dataset, backbones'),
    ("training: {epoch: 3}", 1, 'training.epoch: unknown key "epoch": did you mean "epochs"?'),
    ("search:\n  metrc: accuracy", 2, 'search.metrc: unknown key "metrc": did you mean "metric"?'),
    ("search:\n  seed: 1\n  metric: acuracy", 3, "search.metric: must be 'accuracy', 'balanced_accuracy'"),
    ("search: {metric: acuracy}", 1, 'given \'acuracy\': did you mean "accuracy"?'),
    ("search: {scheduler: no}", 1, "search.scheduler: must be 'asha' or 'none', given 'no'"),
    ("search: {concurrency: atuo}", 1, "must be a valid integer or 'auto', given 'atuo': did you mean \"auto\"?"),
    ("search: {concurrency: 0}", 1, "search.concurrency: must be greater than or equal to 1 or 'auto', given 0"),
    ("search: {gpus_per_trial: -1}", 1, "search.gpus_per_trial: must be greater than or equal to 0"),
    ("search: {budget: 8x}", 1, 'search.budget: not a duration: given "8x"; write for example 8h'),
    ("search: {trials: 0}", 1, "search.trials: must be greater than or equal to 1, given 0"),
    ("training: {epochs: true}", 1, "training.epochs: must be a valid integer, given True"),
    ("training: {epochs: '3'}", 1, "training.epochs: must be a valid integer, given '3'"),
    ("training:\n  epochs: 2\n  warmup_epochs: 2", 1, "training: warmup_epochs must be below epochs: given 2 of 2"),
    ("training: 3", 1, "training: expected {epochs: …, warmup_epochs: …"),
    ("data: {background: [0, 0, 256]}", 1, "data.background: each channel must be 0 to 255: given [0, 0, 256]"),
    ("data: {background: [0, 0]}", 1, "data.background.2: this value is required"),
    ("data: {test_fraction: 0.9}", 1, "data: validation_fraction + test_fraction must leave at least 5 %"),
    ("params: [1]", 1, "params: must be a valid dictionary"),
    ("params:\n  learning_rat: 1", 2, 'unknown hyperparameter "learning_rat": did you mean "learning_rate"?'),
    ("params:\n  zzz: 1", 2, 'unknown hyperparameter "zzz"; expected one of freeze_depth, resolution'),
    ("params:\n  augmentation: [light, afine]", 2, 'given "afine": did you mean "affine"?'),
    ("params: {optimizer: {low: 1, high: 2}}", 1, "params.optimizer: expected one of adamw, sgd, not a range"),
    ("params:\n  dropout:", 2, "params.dropout: expected a number, given None"),
    ("params: {dropout: no}", 1, "params.dropout: expected a number, given 'no'"),
    ("params: {magnitude: true}", 1, "params.magnitude: expected a number, given True"),
    ("params: {dropout: 2}", 1, "params.dropout: must be 0 to 0.9, given 2"),
    ("params: {dropout: .nan}", 1, "params.dropout: must be 0 to 0.9, given nan"),
    ("params: {batch_size: .inf}", 1, "params.batch_size: expected a whole number, given inf"),
    ("params: {resolution: [224, 224.5]}", 1, "params.resolution: expected a whole number, given 224.5"),
    ("params: {resolution: {low: 128, high: 256}}", 1, "params.resolution: a range needs a step, such as 32"),
    ("params: {head: []}", 1, "params.head: the list of choices is empty"),
    ("params: {dropout: [0, 0.0]}", 1, "params.dropout: a choice is listed twice"),
    ("params:\n  dropout:\n    low: 0.5\n    high: 0.1", 2, "low must be below high: given low=0.5 high=0.1"),
    ("params:\n  dropout: {low: 0.1, high: 0.3,\n    hihg: 1}", 3, 'unknown key "hihg": did you mean "high"?'),
    ("params:\n  dropout: {low: 0.1}", 2, "params.dropout.high: this key is required"),
    ("params: {mixup: {low: 0, high: 1, log: true}}", 1, "a log range must start above zero: given low=0"),
    ("params: {dropout: {low: 0.1, high: 0.2, log: true, step: 0.1}}", 1, "log and step exclude each other"),
    ("params: {dropout: {low: 0.1, high: 0.4, step: 0.2}}", 1, "step must divide high - low: given 0.2 and 0.3"),
    ("params: {dropout: {low: 0.1, high: 0.4, step: 0}}", 1, "params.dropout.step: must be greater than 0, given 0"),
    ("params: {batch_size: {low: 8, high: 9, step: 0.5}}", 1, "params.batch_size: step must be a whole number"),
    ("params: {mixup: [0, 0.2], batch_size: [16, 25]}", 1, "batch_size must be even"),
    ("params: {cutmix: 1.0, batch_size: {low: 8, high: 32}}", 1, "batch_size must be even (of a range, step too)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), MISTAKES, ids=[text for text, _, _ in MISTAKES])
def test_a_mistake_is_named_with_its_line(text: str, line: int, message: str) -> None:
    (problem,) = problems(text + "\nbackbones: [a]\n")
    assert problem.startswith(f"space.yaml:{line}: ")
    assert message in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbones: []", "space.yaml:1: backbones: List should have at least 1 item"),
        ("backbones: a", "space.yaml:1: backbones: must be a valid list, given 'a'"),
        ("params: {}\nbackbones: [a, b, a]", "space.yaml:2: backbones: listed more than once: a"),
        ("backbones:\n- a\n- 5", "space.yaml:3: backbones.1: expected {name: …, weights: …, pinned: …}, given 5"),
        ("backbones:\n- {name: a, weight: b}", 'space.yaml:2: backbones.0.weight: unknown key "weight"'),
        ("params: {}", "space.yaml:1: backbones: this key is required"),
        ("", "space.yaml:1: expected keys such as backbones: and params:, found nothing"),
        ("- a", "space.yaml:1: expected keys such as backbones:"),
        ("backbones: [a]\nparams: {head: mlp\n", "space.yaml:3: not valid YAML"),
        ("backbones: [a]\nbackbones: [b]", 'space.yaml:2: found duplicate key "backbones"; remove one of the two'),
        ("backbones: [a]\nsearch: {seed: 1,\n seed: 2}", 'space.yaml:3: found duplicate key "seed"'),
        ("backbones: [a]\n---\nbackbones: [b]", "space.yaml:2: not valid YAML"),
        ("a: \0", "space.yaml:1: not valid YAML: unacceptable character"),
        ("a: !!python/object:os.system x\nbackbones: [b]", "space.yaml:1: a: unknown key"),
        ("[" * 1200, "space.yaml:1: nested too deeply"),
    ],
)
def test_a_file_of_the_wrong_shape(text: str, message: str) -> None:
    assert any(problem.startswith(message) for problem in problems(text))


def test_all_mistakes_of_a_file_are_reported_together_in_its_order() -> None:
    found = problems(
        "backbones:\n"
        "  - {name: a, wieghts: none}\n"
        "  - 3\n"
        "params:\n"
        "  learning_rat: 0.1\n"
        "  dropout: 7\n"
        "  mixup: {low: 1, hihg: 2}\n"
        "training:\n"
        "  epochs: 0\n"
        "  ema: true\n"
        "search: {budget: soon, metric: f1}\n"
        "data: {crop_mode: crop}\n"
        "serach: {}\n"
    )
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == [2, 3, 5, 6, 7, 7, 9, 10, 11, 11, 12, 13]


@settings(max_examples=150, deadline=None)
@given(st.text(string.ascii_letters + " \n-:{}[]&*!|>'\"#%@,.0123456789~?", max_size=80))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    for whole in (text, f"backbones: [a]\nparams:\n  dropout: {text}", f"backbones: [a]\nsearch: {{{text}}}"):
        try:
            parse_config(whole, "space.yaml")
        except ConfigError as error:
            strays = [problem for problem in error.problems if not problem.startswith("space.yaml:")]
            assert not strays


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read search space .*missing.yaml: No such file"):
        load_config(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"description: \xe4")
    with pytest.raises(ConfigError, match=r"not a UTF-8 text file: .* at byte 13"):
        load_config(tmp_path / "latin.yaml")


# --- durations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), ("2d", 172800), ("30", 30), (30, 30),
     ("+2h", 7200), (" 10M ", 600)],
)  # fmt: skip
def test_a_duration_in_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "8 hours", "-3h", "0s", 0, -1, math.inf, math.nan, True, "1h30", "1e3"])
def test_what_is_not_a_duration(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"not a duration|above zero"):
        parse_duration(text)


# --- the schema for editors -----------------------------------------------------------------------------------------


def test_the_schema_file_is_up_to_date() -> None:
    command = "python -m automl.config > search_spaces/schema.json"
    assert (SPACES / "schema.json").read_text(encoding="utf-8") == schema(), f"run: {command}"
    written = subprocess.run([sys.executable, "-m", "automl.config"], capture_output=True, text=True, check=True)
    assert written.stdout == schema()


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_search_spaces_of_the_project_fit_the_schema(path: Path) -> None:
    jsonschema.validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")), json.loads(schema()))


def test_the_schema_knows_every_hyperparameter_and_refuses_others() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema()))
    for params in ({"learning_rat": 1}, {"optimizer": "adam"}, {"dropout": 2}, {"batch_size": [1.5]}):
        assert not validator.is_valid({"backbones": ["a"], "params": params})
    described = json.loads(schema())["properties"]["params"]["properties"]
    assert {name: value["description"] for name, value in described.items()} == {
        name: parameter.doc for name, parameter in PARAMETERS.items()
    }
