"""A model alone, as the user meets it: trained, measured and drawn by commands, beside a loop that stays as it is."""

import json

from small_project import make_project


def test_a_model_is_trained_measured_and_drawn(tmp_path):
    """Three commands, each with what it writes; a second stage starts from the first's weights."""
    project = make_project(tmp_path / "project")
    before = project.digests()
    first = project.run("al_dgm", "train", "--labels", "6", "--out", "alone/first")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("alone/first: accuracy ")
    assert first.stdout.endswith(" nats on the holdout\n")
    finer = ("--set", "training.learning_rate=1e-4", "--set", "training.steps=10")
    second = project.run(
        "al_dgm", "train", "--labels", "none", "--from", "alone/first", "--out", "alone/second", *finer
    )
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("alone/second: ELBO ")
    measured = project.run("al_dgm", "evaluate", "alone/second", "--importance-samples", "20", "--out", "alone/m.json")
    assert measured.returncode == 0, measured.stderr
    numbers = json.loads((project.folder / "alone" / "m.json").read_text())
    lines = measured.stdout.splitlines()
    assert lines[:3] == [
        f"alone/second: m2 {numbers['version']}",
        "holdout   20 examples",
        f"accuracy  {numbers['accuracy']:.2%}",
    ]
    bound, error = numbers["importance_weighted"], numbers["importance_weighted_error"]
    assert lines[-1] == f"log p(x)  at least {bound:.2f} ± {error:.2f} nats, by 20 importance samples"
    drawn = project.run("al_dgm", "draw", "alone/first")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.splitlines() == [
        "figures/alone/first/generation.png",
        "figures/alone/first/analogies.png is not drawn: examples of shape [2] are no images",
        "figures/alone/first/reconstruction.png is not drawn: examples of shape [2] are no images",
        "figures/alone/first/latents.png",
        "figures/alone/first/activity.png",
    ]
    after = project.digests()
    assert {path: after[path] for path in before} == before
    assert not list((project.folder / "checkpoints").glob("*"))
