"""params.yaml and rounds.yaml: what is accepted, how the rest is refused, and what the fingerprint notices."""

import copy
from pathlib import Path

import pytest
import yaml

from al_dgm.acquisition import SCORES, SELECTORS
from al_dgm.config import Choice, load_params, load_rounds, parse_params, write_rounds
from al_dgm.errors import ConfigError
from al_dgm.models import MODELS
from al_dgm.registry import checked_options, lookup

SHIPPED = Path(__file__).parents[2] / "params.yaml"
CONTENT = yaml.safe_load(SHIPPED.read_text())


def changed(path, value):
    """The shipped parameters with one value set; the path is dotted."""
    content = copy.deepcopy(CONTENT)
    *sections, key = path.split(".")
    at = content
    for section in sections:
        at = at[section]
    at[key] = value
    return content


def removed(path):
    content = copy.deepcopy(CONTENT)
    *sections, key = path.split(".")
    at = content
    for section in sections:
        at = at[section]
    del at[key]
    return content


def test_the_shipped_parameters_are_valid_and_so_is_every_block():
    params = load_params(SHIPPED)
    lookup(SCORES, params.acquisition.name, "acquisition.name")
    for name, block in params.model.blocks.items():
        checked_options(lookup(MODELS, name, "model"), block or {}, f"model.{name}", given=["space"])
    for name, block in params.acquisition.selector.blocks.items():
        checked_options(lookup(SELECTORS, name, "selector"), block or {}, f"selector.{name}")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.stepz", 5, r"training\.stepz: unknown key \(did you mean 'steps'\?\); expected one of: steps"),
        ("trainning", {}, r"params: trainning: unknown key \(did you mean 'training'\?\); expected one of: seed"),
        ("acquisition.query_sise", 1, r"acquisition\.query_sise: unknown key \(did you mean 'query_size'\?\)"),
        ("training.steps", "many", r"training\.steps: input should be a valid integer.*, got 'many'"),
        ("training.steps", 2.5, r"training\.steps: .*integer.*, got 2\.5"),
        ("training.steps", 0, r"training\.steps: input should be greater than 0, got 0"),
        ("training.latent_warmup", 1.5, r"training\.latent_warmup: input should be less than or equal to 1, got 1\.5"),
        ("training.learning_rate", float("nan"), r"training\.learning_rate: .*, got nan"),
        ("training.weighting", "average", r"training\.weighting: input should be 'sum' or 'mean', got 'average'"),
        ("seed", -1, r"seed: input should be greater than or equal to 0, got -1"),
        ("model.ensemble", 0, r"model\.ensemble: input should be greater than 0, got 0"),
        ("model.m2", 4, r"model: 'm2' should be a block of options \(key: value\), got 4"),
        ("training", None, r"training: input should be a valid dictionary or instance of TrainingParams, got None"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_path(path, value, message):
    with pytest.raises(ConfigError, match=rf"^params: .*{message.removeprefix('params: ')}"):
        parse_params(changed(path, value))


def test_a_misspelt_key_is_named_rather_than_the_one_that_is_missing_for_it():
    content = removed("training.steps")
    content["training"]["stepz"] = 5
    with pytest.raises(ConfigError, match=r"training\.stepz: unknown key \(did you mean 'steps'\?\)"):
        parse_params(content)


@pytest.mark.parametrize("path", ["seed", "training.steps", "model.name", "data.shard_size", "tracking"])
def test_a_missing_parameter_is_named(path):
    with pytest.raises(ConfigError, match=rf"^params: {path}: field required"):
        parse_params(removed(path))


def test_a_balanced_seed_set_needs_the_oracle():
    content = changed("seed_set.strategy", "balanced")
    content["labels"]["name"] = "csv"
    with pytest.raises(ConfigError, match=r"needs labels\.name 'oracle', got 'csv'; expected 'random' or 'given'"):
        parse_params(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: file not found; expected it in "):
        load_params(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\ndata: {name: digits\nmodel: 1\n", r"params\.yaml: line 3 not valid YAML: expected ',' or '}'"),
        ("seed: 0\n\tdata: 1\n", r"params\.yaml: line 2 not valid YAML"),
        ("- a\n- b\n", r"params\.yaml: expected sections \(key: value\), got list"),
        ("", r"params\.yaml: expected sections \(key: value\), got NoneType"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_params(tmp_path / "params.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: expected UTF-8 text: "):
        load_params(tmp_path / "params.yaml")


def test_parameters_cannot_be_changed_after_loading():
    params = load_params(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 5


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("data.name", "half_moons"),
        ("data.digits.holdout", 500),
        ("seed_set.size", 30),
        ("model.name", "sdgm"),
        ("model.m2.latent", 3),
        ("training.steps", 7),
        ("training.start", "warm"),
        ("prediction.weight_samples", 3),
        ("acquisition.name", "margin"),
        ("acquisition.selector.name", "softmax"),
        ("labels.oracle.noise", 0.25),
    ],
)
def test_the_fingerprint_changes_with_whatever_can_change_a_result(path, value):
    before, after = parse_params(CONTENT), parse_params(changed(path, value))
    assert before != after
    assert before.fingerprint() != after.fingerprint()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("compute.workers", 4),
        ("compute.threads", 7),
        ("compute.checkpoint_seconds", 1.0),
        ("tracking.experiment", "another"),
        ("tracking.enabled", False),
        ("model.sdgm.latent", 5),  # the model is m2
        ("data.half_moons.noise", 0.3),  # the data are the digits
        ("labels.csv.folder", "elsewhere"),  # the oracle answers
        ("acquisition.selector.softmax.beta", 3.0),  # the selector is top_k
    ],
)
def test_the_fingerprint_does_not_change_with_what_cannot(path, value):
    before, after = parse_params(CONTENT), parse_params(changed(path, value))
    assert before != after
    assert before.fingerprint() == after.fingerprint()


def test_changes_are_made_before_the_file_is_checked(tmp_path):
    """Dotted keys, values in YAML; also in blocks that the file does not have, and whole sections."""
    changes = ["training.steps=7", "model.vae.latents=[3, 2]", "model.name=vae", "training.learning_rate=1e-4"]
    params = load_params(SHIPPED, [*changes, "acquisition.max_candidates=null", " seed = 5"])
    assert (params.training.steps, params.training.learning_rate, params.seed) == (7, 1e-4, 5)
    assert params.model.options == {**CONTENT["model"]["vae"], "latents": [3, 2]}
    assert load_params(SHIPPED, ["labels.mine.x=1"]).labels.blocks["mine"] == {"x": 1}
    assert load_params(SHIPPED, []) == load_params(SHIPPED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stepz=5", r"params\.yaml: training\.stepz: unknown key \(did you mean 'steps'\?\)"),
        ("trainning.steps=5", r"trainning: unknown key \(did you mean 'training'\?\)"),
        ("training.steps=many", r"training\.steps: input should be a valid integer.*, got 'many'"),
        ("seed.x=1", r"seed: input should be a valid integer, got {'x': 1}"),
        ("training.steps", r"--set: expected section\.key=value, got 'training\.steps'"),
        ("training..steps=1", r"--set: expected section\.key=value, got 'training\.\.steps=1'"),
        ("=1", r"--set: expected section\.key=value, got '=1'"),
        ("model.m2.hidden=[1", r"--set model\.m2\.hidden: expected a value in YAML, got '\[1'"),
    ],
)
def test_a_wrong_change_is_refused_like_a_wrong_file(change, message):
    with pytest.raises(ConfigError, match=message):
        load_params(SHIPPED, [change])


def test_the_fingerprint_does_not_depend_on_the_order_of_the_keys():
    turned = {key: CONTENT[key] for key in reversed(CONTENT)}
    assert parse_params(turned).fingerprint() == parse_params(CONTENT).fingerprint()
    assert len(parse_params(CONTENT).fingerprint()) == 12


def test_a_choice_knows_its_blocks_and_checks_them_all():
    choice = Choice(name="softmax", softmax={"beta": 2}, top_k=None)
    assert (choice.options, set(choice.blocks)) == ({"beta": 2}, {"softmax", "top_k"})
    assert choice.build(SELECTORS, "selector").beta == 2
    with pytest.raises(ConfigError, match=r"^selector: unknown name 'sofmax' \(did you mean 'softmax'\?\)"):
        Choice(name="top_k", sofmax={}).build(SELECTORS, "selector")
    with pytest.raises(ConfigError, match=r"^selector\.name: unknown name 'best'"):
        Choice(name="best").build(SELECTORS, "selector")


def test_a_choice_without_a_block_uses_the_defaults():
    assert Choice(name="softmax").build(SELECTORS, "selector").beta == 8.0


@pytest.mark.parametrize("queries", [1, 3])
def test_rounds_survive_the_file_and_form_a_chain(tmp_path, queries):
    """One training more than queries; each names its predecessor."""
    written = write_rounds(queries, tmp_path / "rounds.yaml")
    assert load_rounds(tmp_path / "rounds.yaml") == written
    assert list(written.trainings.items()) == [(str(k), k - 1) for k in range(1, queries + 2)]
    assert list(written.queries.items()) == list(written.trainings.items())[:queries]


def test_broken_rounds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^rounds: expected at least 1, got 0"):
        write_rounds(0, tmp_path / "rounds.yaml")
    (tmp_path / "rounds.yaml").write_text('trainings: {"1": 0, "3": 2}\nqueries: {"1": 0}\n')
    with pytest.raises(ConfigError, match="not a chain"):
        load_rounds(tmp_path / "rounds.yaml")
