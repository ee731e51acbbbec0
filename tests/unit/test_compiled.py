"""The compiled step against the plain one, and rounded products against full ones."""

from dataclasses import replace

import pytest
import torch
from small_fit import IMAGES, SPEC, recipe, small_data

from al_dgm.learning.fit import Fit, TrainingData, Workers, fit
from al_dgm.nn.linear import BayesianLinear


def gradients_of_a_step(model, options, step, *, compile_step):
    """Terms and gradients of one step."""
    running = Fit(model, small_data(), recipe(**options), seed=0, workers=Workers(), compile_step=compile_step)
    model.zero_grad()
    loss, terms = running.objective_at(step)
    loss.backward()
    return terms, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("spec", [SPEC, pytest.param(IMAGES, marks=pytest.mark.slow)], ids=["rows", "images"])
def test_a_compiled_step_is_the_plain_step(spec):
    """Every term and every gradient to rounding, in two phases of the warm-ups, without compiling twice."""
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in (1, 15):
            torch._dynamo.reset()
            plain = gradients_of_a_step(spec.build(0), {}, step, compile_step=False)
            compiled = gradients_of_a_step(spec.build(0), {}, step, compile_step=True)
            for expected, found in zip(plain, compiled, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_compiled_fit_is_one_program():
    """Warm-up factors move at every step and recompile nothing; the curve is the plain fit's to rounding."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    curves = []
    for compile_step in (False, True):
        with torch._dynamo.config.patch(error_on_recompile=True):
            curves.append(fit(SPEC.build(0), small_data(), recipe(steps=60), seed=0, compile_step=compile_step))
    assert not torch._dynamo.utils.counters["graph_break"]
    for plain, compiled in zip(*curves, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-3, abs=1e-3)


def test_terms_outlive_the_next_step(monkeypatch):
    """A CUDA graph gives every step's results in the same memory, as does this stand-in for a compiled program."""

    def program(objective, **_):
        memory = {}

        def replay(*given):
            loss, terms = objective(*given)
            for name, value in terms.items():
                memory.setdefault(name, torch.empty_like(value)).detach_().copy_(value.detach())
            return loss, dict(memory)

        return replay

    plain = fit(SPEC.build(0), small_data(), recipe(steps=60), seed=0)
    monkeypatch.setattr(torch, "compile", program)
    overwritten = fit(SPEC.build(0), small_data(), recipe(steps=60), seed=0, compile_step=True)
    assert overwritten == [pytest.approx(row, rel=1e-5, abs=1e-5) for row in plain]


def test_another_round_is_the_same_program():
    """More labels and fewer unlabelled examples: other weights of the terms, and nothing is compiled again."""
    torch._dynamo.reset()
    few = small_data()
    more = TrainingData(torch.cat([few.x_labelled, few.x_unlabelled[:5]]), torch.arange(15) % 3, few.x_unlabelled[5:])
    with torch._dynamo.config.patch(error_on_recompile=True):
        for data in (few, more):
            plain, compiled = (
                fit(SPEC.build(0), data, recipe(steps=10), seed=0, compile_step=compile_step)
                for compile_step in (False, True)
            )
            assert compiled == [pytest.approx(row, rel=1e-3, abs=1e-3) for row in plain]


@pytest.mark.parametrize("spec", [SPEC, IMAGES], ids=["rows", "images"])
def test_rounded_products_are_close_and_end_with_the_fit(spec):
    """bfloat16 has 8 bits: terms agree to a per cent, and prediction is in full precision again."""
    spec = replace(spec, options={**spec.options, "hidden": [64], "bayesian": "classifier"})
    full, _ = gradients_of_a_step(spec.build(0), {}, 1, compile_step=False)
    model = spec.build(0)
    rounded, gradients = gradients_of_a_step(model, {"precision": "bfloat16"}, 1, compile_step=False)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    for name, value in full.items():
        assert rounded[name].item() == pytest.approx(value.item(), rel=0.02, abs=0.02), name
    assert rounded["unlabelled_bound"] != full["unlabelled_bound"]
    fit(model, small_data(), recipe(steps=5, precision="bfloat16"), seed=0)
    layers = [module for module in model.modules() if hasattr(module, "matmul")]
    assert any(isinstance(layer, BayesianLinear) for layer in layers)
    assert all(layer.matmul is None for layer in layers)
