"""What every model promises, for each that is registered; a new one needs nothing here."""

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_models import (
    KINDS,
    NAMES,
    OF_IMAGES,
    PARAMS,
    UNSUPERVISED,
    B,
    C,
    D,
    S,
    all_bayesian,
    data,
    distributed,
    every_generative,
    every_kind,
    every_model,
    every_registered,
    every_way_to_predict,
    every_weights,
    minibatch,
    noise,
    registered,
    spec,
    stirred,
    weights_as,
)
from torch.nn import functional as F

from al_dgm.acquisition import Evidence, Moments
from al_dgm.acquisition.scores import BALD
from al_dgm.errors import ConfigError, DataError
from al_dgm.learning import predict
from al_dgm.learning.acquire import check_acquisition
from al_dgm.learning.fit import TrainingData, fit
from al_dgm.learning.job import ModelSpec
from al_dgm.learning.model_files import SPEC, WEIGHTS, load_model, save_model
from al_dgm.learning.predict import DECODED, Predictor
from al_dgm.models import DeepGenerativeModel
from al_dgm.models.base import Settings
from al_dgm.models.ensemble import members_of
from al_dgm.nn.bayesian import bayesian_layers, kl_of_weights, mean_weights

L = B - 2  # labelled examples, where their number is to differ from that of the others


@every_model
@every_kind
@pytest.mark.parametrize("mode", ["local", "mean", "sampled"])
def test_log_probabilities_normalise_and_terms_have_a_value_per_example(name, kind, mode):
    model, x, y = spec(name, kind).build(0), data(kind), torch.arange(B) % C
    with weights_as(model, mode):
        log_p = model.log_predictive(x, noise(), S)
        terms = model.terms(minibatch(x[:L], y[:L], x), Settings())
    assert log_p.shape == (B, C)
    torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(B), atol=1e-5, rtol=0)
    shapes = {"classification": (L,)}
    if model.generative:
        shapes |= {"labelled_bound": (L,), "unlabelled_bound": (B,)}
    if isinstance(model, DeepGenerativeModel):
        shapes |= {"q": (B, C)}
    assert {name: tuple(value.shape) for name, value in terms.items()} == shapes


@every_model
@every_kind
def test_the_data_reach_every_parameter(name, kind):
    """Each parameter, ρ of the Bayesian layers included, has a finite gradient from the data and not all of it 0."""
    model = spec(name, kind).build(0)
    for part, _ in model.curriculum():
        terms = part.terms(minibatch(data(kind), torch.arange(B) % C, data(kind, seed=1)), Settings())
        loss = terms["classification"].sum()
        if model.generative:
            loss = loss - terms["labelled_bound"].sum() - terms["unlabelled_bound"].sum()
        loss.backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.abs().max() > 0, parameter


@every_model
@every_kind
def test_double_precision_agrees_with_single(name, kind):
    model, x = spec(name, kind).build(0), data(kind)
    double = spec(name, kind).build(0).double()
    y = torch.arange(B) % C
    with weights_as(model, "mean"), weights_as(double, "mean"):
        assert double.log_predictive(x.double(), noise(), S).dtype == torch.float64
        found, expected = (m.log_predictive(v, noise(), S) for m, v in ((model, x), (double, x.double())))
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
        single = model.terms(minibatch(x, y, x), Settings())
        exact = double.terms(minibatch(x.double(), y, x.double()), Settings())
    for term, value in exact.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(single[term].double(), value, atol=1e-3, rtol=1e-4)


@every_model
def test_a_seed_decides_the_initial_weights_and_nothing_else_is_touched(name):
    before = torch.random.get_rng_state()
    first, again, other = (spec(name).build(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_model
@every_weights
def test_predictions_and_version_survive_the_disk(name, weights, tmp_path):
    """safetensors and JSON: the same predictions to the bit, and the same version when saved again."""
    about, x = spec(name, **distributed(name, weights)), data(rows=20)
    model = about.build(0).eval()
    version = save_model(tmp_path / "one", about, model)
    loaded, read, read_version = load_model(tmp_path / "one")
    assert (read, read_version) == (about, version)
    assert not loaded.training
    before, after = (Predictor(PARAMS.prediction, seed=5).moments(m, x, C) for m in (model, loaded))
    assert torch.equal(before.sum_p, after.sum_p)
    assert save_model(tmp_path / "two", read, loaded) == version
    assert save_model(tmp_path / "three", about, about.build(1)) != version


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(OF_IMAGES)))
def test_a_model_from_before_shapes_were_kept_is_read_as_one_of_rows(name, tmp_path):
    save_model(tmp_path, replace(spec(name), shape=()), spec(name).build(0))
    content = json.loads((tmp_path / SPEC).read_text())
    del content["shape"]
    (tmp_path / SPEC).write_text(json.dumps(content))
    assert load_model(tmp_path)[1].shape == ()


@every_model
def test_a_missing_or_damaged_model_is_a_data_error(name, tmp_path):
    with pytest.raises(DataError, match="no model here"):
        load_model(tmp_path)
    save_model(tmp_path, replace(spec(name), classes=tuple("abcd")), spec(name).build(0))
    with pytest.raises(DataError, match=r"do not belong together: size mismatch for "):
        load_model(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a model of al-dgm"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("{", r"model.json: not valid JSON: "),
        ("null", r"model.json: expected a JSON object, got NoneType"),
        ({"ensemble": 0}, r"not a model of al-dgm: model.json: ensemble: input should be greater than or equal to 1"),
        ({"classes": 3}, r"not a model of al-dgm: model.json: classes: input should be a valid tuple, got 3"),
        ({"colour": 3}, r"not a model of al-dgm: model.json: colour: "),
        ({"observation": {"kind": "poisson"}}, r"not a model of al-dgm: 'poisson'"),
        ({"options": {"hiden": [3]}}, r"not a model of al-dgm: model.m2.hiden: unknown option \(did you mean 'hidden'"),
    ],
)
def test_a_damaged_description_is_a_data_error(damage, message, tmp_path):
    save_model(tmp_path, spec("m2"), spec("m2").build(0))
    content = json.loads((tmp_path / SPEC).read_text())
    (tmp_path / SPEC).write_text(damage if isinstance(damage, str) else json.dumps({**content, **damage}))
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))}.*{message}"):
        load_model(tmp_path)


@every_registered
def test_an_unknown_option_is_refused_with_its_path_and_the_nearest_name(name):
    with pytest.raises(ConfigError, match=rf"^model\.{name}\.bayesain: unknown option \(did you mean 'bayesian'\?\)"):
        ModelSpec(name, {"bayesain": 1}, D, tuple("abc"), {"kind": "gaussian"}, 0.0, 1.0).build(0)


@every_generative
@pytest.mark.parametrize(
    ("wrong", "near"),
    [("clasifier", "classifier"), ("clasifier.last", "classifier.last"), ("decoder.lst", "decoder.last")],
)
def test_an_unknown_network_is_refused_with_the_nearest_name(name, wrong, near):
    expected = rf"unknown network '{wrong}' \(did you mean '{near}'\?\); expected none, all, or"
    with pytest.raises(ConfigError, match=rf"^model\.{registered(name)}\.bayesian: {expected}"):
        spec(name, bayesian=["encoder", wrong]).build(0)


@every_generative
@pytest.mark.parametrize("whole", ["none", "all"])
def test_none_and_all_stand_by_themselves(name, whole):
    with pytest.raises(ConfigError, match=rf"bayesian: expected '{whole}' by itself, got {whole}, classifier$"):
        spec(name, bayesian=[whole, "classifier"]).build(0)


@every_generative
def test_bayesian_names_exactly_the_networks_that_carry_a_distribution(name):
    assert bayesian_layers(spec(name, bayesian="none").build(0)) == {}
    some = bayesian_layers(spec(name, bayesian=["classifier", "decoder"]).build(0))
    assert {layer.split(".")[0] for layer in some} == {"classifier", "decoder"}


@every_generative
def test_the_last_layer_alone_of_a_network_may_carry_a_distribution(name):
    """``decoder.last``: the last layer of each of the decoder's networks, and nothing else of it."""
    point, every, last = (
        list(bayesian_layers(spec(name, bayesian=bayesian).build(0)))
        for bayesian in ("none", "decoder", "decoder.last")
    )
    assert point == []
    assert set(last) < set(every)
    networks = {path.rsplit(".", 1)[0] for path in last}
    ends = [[path for path in every if path.startswith(f"{network}.")][-1] for network in networks]
    assert sorted(last) == sorted(ends)


def test_a_classifier_may_be_bayesian_in_its_last_layer_alone():
    assert list(bayesian_layers(spec("mlp", bayesian="last").build(0))) == ["classifier.layers.1"]
    with pytest.raises(ConfigError, match=r"^model\.mlp\.bayesian: input should be True, False or 'last', got 'lats'"):
        spec("mlp", bayesian="lats").build(0)


@every_way_to_predict
@pytest.mark.parametrize(("kind", "members"), [*((kind, 1) for kind in KINDS), ("binomial", 2)])
def test_a_prediction_does_not_depend_on_the_minibatch(name, prediction, kind, members, monkeypatch):
    """Common noise: each example's probabilities and bound are the same alone, in threes and all together.

    And all together but decoded one at a time.
    """
    model, x = spec(name, kind, prediction=prediction, ensemble=members).build(0).eval(), data(kind, rows=7)
    found = []
    for size, decoded in ((1, DECODED), (3, DECODED), (7, DECODED), (7, 1)):
        monkeypatch.setattr(predict, "DECODED", decoded)
        predictor = Predictor(PARAMS.prediction.model_copy(update={"weight_samples": 3}), seed=1, batch=size)
        found.append([predictor.moments(model, x, C).sum_p])
        if model.generative:
            found[-1].append(predictor.expected_elbo(model, x).double())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=1e-5)


@every_model
@every_weights
def test_weight_sample_k_is_the_same_function_for_every_example_and_every_batch(name, weights):
    """Whatever was scored before, and in whichever company: joint acquisition and sharding rest on this."""
    model, x = stirred(spec(name, **distributed(name, weights)).build(0).eval()), data(rows=9)
    predictor = Predictor(PARAMS.prediction.model_copy(update={"weight_samples": 3}), seed=2)
    whole = [predictor.log_predictive(function, x) for function in predictor.weight_samples(model)]
    part = [predictor.log_predictive(function, x[[5, 1]]) for function in predictor.weight_samples(model)]
    twice = [predictor.log_predictive(function, x[[0, 0]]) for function in predictor.weight_samples(model)]
    assert len(whole) == 3
    for k in range(3):
        torch.testing.assert_close(part[k], whole[k][[5, 1]], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(twice[k][0], twice[k][1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole[0], whole[1])


@every_way_to_predict
@pytest.mark.parametrize(("bayesian", "members"), [("some", 1), ("all", 1), ("last", 2)])
def test_what_weight_samples_have_in_common_may_be_computed_once(name, prediction, bayesian, members):
    """The moments with the shared part equal those of predicting anew for every weight sample."""
    some = PARAMS.model.blocks[registered(name)]["bayesian"]
    last = f"{some}.last" if isinstance(some, str) else some
    named = {"some": some, "last": last, "all": all_bayesian(name)}[bayesian]
    model, x = spec(name, bayesian=named, prediction=prediction, ensemble=members).build(0).eval(), data(rows=9)
    if isinstance(first := members_of(model)[0], DeepGenerativeModel):
        assert first.groundwork_has_point_weights == (bayesian != "all")
        fewer = spec(name, bayesian=named, prediction=prediction, enumeration=2).build(0)
        classifier_is_drawn = registered(name) != "bdgm"  # there it is the predictor, which has no say in the sum
        assert not (fewer.groundwork_has_point_weights and classifier_is_drawn)
    predictor = Predictor(PARAMS.prediction.model_copy(update={"weight_samples": 4}), seed=2, batch=4)
    anew = Moments.zeros(len(x), C)
    for function in predictor.weight_samples(model):
        anew.add(predictor.log_predictive(function, x, *predictor.groundwork(function, x)))
    found = predictor.moments(model, x, C)
    torch.testing.assert_close(found.sum_p, anew.sum_p, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sum_entropy, anew.sum_entropy, atol=1e-5, rtol=1e-5)


@every_model
@every_weights
def test_bald_measures_the_spread_of_predictions_wherever_it_comes_from(name, weights):
    """Weights of all layers or of the last one, or members: 0 < I[y; W | x] ≤ min(log C, log K)."""
    model, x = stirred(spec(name, **distributed(name, weights)).build(0).eval()), data(rows=20)
    predictor = Predictor(PARAMS.prediction.model_copy(update={"weight_samples": 3}), seed=2)
    bald = BALD()(Evidence(examples=len(x), moments=predictor.moments(model, x, C)))
    assert bald.max() > 1e-6
    assert bald.min() >= 0
    assert bald.max() <= math.log(3) + 1e-9


@every_model
@every_weights
def test_a_query_by_bald_needs_samples_that_predict_differently(name, weights):
    """Of the model as it starts, before it has cost an hour."""
    info, several, one = SimpleNamespace(examples=100), distributed(name, weights), distributed(name, "ensemble")
    check_acquisition(PARAMS, spec(name, **several).build(0).eval(), info)
    with pytest.raises(ConfigError, match=r"'bald' needs weight samples that predict differently"):
        check_acquisition(PARAMS, spec(name, **(one | {"ensemble": 1})).build(0).eval(), info)


@every_model
def test_bald_of_one_model_with_point_weights_is_exactly_zero(name):
    model = spec(name, **(distributed(name, "ensemble") | {"ensemble": 1})).build(0).eval()
    moments = Predictor(PARAMS.prediction, seed=2).moments(model, data(), C)
    assert moments.samples == 1
    assert (BALD()(Evidence(examples=B, moments=moments)) == 0).all()


@every_model
@every_kind
def test_terms_and_gradients_stay_finite_on_extreme_inputs(name, kind):
    """Far outliers, all-zero and all-one rows, and a classifier so sure of itself that other classes underflow."""
    model = spec(name, kind).build(0)
    with torch.no_grad():
        model.classifier.layers[-1].bias.copy_(torch.tensor([500.0, 0.0, -500.0]))
    scale = 1e3 if kind == "gaussian" else 1.0
    x = scale * torch.stack([torch.zeros(D), torch.ones(D), torch.eye(D)[0]])
    values = list(model.terms(minibatch(x, torch.tensor([0, 1, 2]), x), Settings(adversarial_radius=0.5)).values())
    assert all(value.isfinite().all() for value in values)
    sum(value.sum() for value in values).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, marks=[pytest.mark.slow] * (seed > 0 or name in OF_IMAGES))
        for name in sorted(NAMES)
        for seed in range(3)
    ],
)
def test_fully_bayesian_models_train(name, seed):
    """400 steps with every weight a distribution, in the recipe of params.yaml: finite, and better than before.

    Features that were learnt without labels take longer to tell classes apart: of those the bound has to rise.
    """
    about = spec(name)
    model = about.build(seed)
    recipe = PARAMS.training.model_copy(update={"steps": 400, "patience": 0})
    y = torch.arange(300) % C
    x = 0.5 * data(rows=300, seed=seed) + 0.5 * F.one_hot(y, D)  # each class has a bright pixel of its own
    history = fit(model, TrainingData(x[:30], y[:30], x[30:]), recipe, seed)
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    with mean_weights(model):
        predicted = Predictor(PARAMS.prediction, seed=0).log_predictive(model, x[30:]).argmax(-1)
    if name in UNSUPERVISED or registered(name) == "m1m2":
        assert history[-1]["unlabelled_bound"] > history[0]["unlabelled_bound"] + 1
    else:
        assert (predicted == y[30:]).float().mean() > 0.5
    assert all(value.item() > 0 for value in kl_of_weights(model).values())
