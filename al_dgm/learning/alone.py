"""A model by itself, outside the loop: trained on the labels that the user names, and loaded to be looked at."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from al_dgm.config import Params
from al_dgm.data.prepared import DatasetInfo, Holdout, load_holdout, load_ids, load_info, load_pool, load_truth
from al_dgm.errors import ConfigError, DataError
from al_dgm.labelling.ledger import consensus, read_ledger
from al_dgm.labelling.seed_set import choose_seed_set
from al_dgm.learning.components import checked_model
from al_dgm.learning.density import log_likelihood
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.evaluate import log_predictive, scores
from al_dgm.learning.job import ModelSpec, TrainingJob
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import SPEC, labelled_ids, load_model
from al_dgm.learning.outcome import read_json
from al_dgm.learning.rounds import model_spec, of_data, predictor, training_data
from al_dgm.learning.training import TIMINGS, Train, Training, train_and_measure, write_json
from al_dgm.models import GenerativeModel, Model
from al_dgm.models.ensemble import members_of
from al_dgm.seeding import integer_seed

ABOUT = "params.json"


def train_alone(
    params: Params, layout: Layout, labels: str, out: Path, start: Path | None, train: Train
) -> dict[str, Any]:
    """Train the model of params.yaml on the prepared data, and write it with its metrics; returns the metrics.

    The minibatches, the noise and the measuring are those of a loop's first round: on the same labels it is the same
    model.

    Args:
        params: all of it but what concerns data, acquisition and label sources.
        layout: where the data and the checkpoints lie.
        labels: which labels are known, see `known_labels`.
        out: folder for model, history, metrics and the parameters.
        start: folder of a saved model whose weights this one starts from.
        train: runs the job (`al_dgm.distributed.train.train`).

    Raises:
        ConfigError: a parameter is wrong, ``start`` is another model, or ``out`` has one already; a training that was
            killed while it measured goes on.
        DataError: there is nothing to train on, or a file is missing or damaged.
    """
    began, info = time.monotonic(), load_info(layout.prepared)
    model, spec = checked_model(params, info), model_spec(params.model, info)
    known = known_labels(labels, layout, info, params.seed)
    if known.empty:
        _check_unsupervised(model, params)
    weights, version = (None, None) if start is None else _start(start, spec, model, layout, info)
    labelled = set(known.index) | (labelled_ids(start) if start is not None else set())
    job = TrainingJob(
        spec=spec,
        data=training_data(load_pool(layout.prepared), known, info.classes),
        recipe=params.training,
        seed=integer_seed(params.seed, "fit", 1, *([version] if version else [])),
        start=weights,
        label=f"{spec.name}: {len(known)} labels",
    )
    about = {"known_labels": labels, "from": version, **_in_use(params)}
    _refuse_finished(out, about)
    # Before the training, so that a folder that cannot be written is found out now.
    write_json(out / ABOUT, about)
    measures = predictor(params, 1, "measuring on the holdout")
    training = Training(job, "alone", measures, model=out, rest=out, labelled=labelled, about={}, began=began)
    return train_and_measure(training, params.compute, layout, info, train)


def known_labels(wanted: str, layout: Layout, info: DatasetInfo, seed: int) -> pd.Series:
    """Example id -> class name.

    Args:
        wanted: a number: as many in all, spread over the classes evenly, from the hidden truth, as the loop's balanced
            seed set; ``none``: 0; ``all`` that the truth has; otherwise the file of a ledger.
        layout: where the data lie.
        info: of the prepared data.
        seed: of the choice.

    Raises:
        ConfigError: ``wanted`` is none of these, or leaves classes without a label.
        DataError: a class has too few examples, or the data or the ledger are missing.
    """
    if wanted == "all":
        return pd.Series(load_truth(layout.prepared), dtype=object)
    if wanted == "none" or wanted.isdecimal():
        count, truth = int(wanted.replace("none", "0")), load_truth(layout.prepared)
        if 0 < count < len(info.classes):
            raise ConfigError(f"--labels: expected none, or one of each of {len(info.classes)} classes, got {count}")
        try:
            ids = choose_seed_set("balanced", count, load_ids(layout.prepared), info.classes, lambda: truth, seed)
        except DataError as error:
            reason = str(error).removeprefix("seed set: ")
            raise DataError(f"--labels {wanted}: {reason}; all takes the {len(truth)} that are known") from None
        return pd.Series({name: truth[name] for name in ids}, dtype=object)
    if not Path(wanted).is_file():
        what = f"'{wanted}'" if Path(wanted).parent == Path() else f"'{wanted}', where there is no file"
        raise ConfigError(f"--labels: expected a number, all, none, or the file of a ledger, got {what}")
    labels = consensus(read_ledger(Path(wanted)))
    if labels.empty:
        raise DataError(f"{wanted}: expected a ledger with at least one label, got none; `--labels none` needs none")
    return labels


def evaluate_alone(params: Params, layout: Layout, folder: Path, samples: int) -> dict[str, Any]:
    """How good the saved model in ``folder`` is on the holdout: scores of its predictions, bounds on log p(x).

    There are no scores of a model that `train_alone` trained without labels.

    Args:
        params: of which ``seed``, ``prediction`` and ``compute`` are read.
        layout: where the data lie.
        folder: of the model.
        samples: K of the importance-weighted bound; see `al_dgm.learning.density`.

    Raises:
        ConfigError: the model is one of other data, or has learnt from labels of the holdout.
        DataError: a file is missing or damaged.
    """
    info = load_info(layout.prepared)
    holdout = load_holdout(layout.prepared, info)
    model, spec, version = load_alone(folder, info)
    _refuse_leaks(folder, holdout)
    model.to(set_up_torch(params.compute))
    x = torch.from_numpy(holdout.x)
    measured = {"model": spec.name, "version": version, "examples": len(x)}
    if labelled_ids(folder):
        predicted = log_predictive(model, x, info, predictor(params, 1, "predicting"))
        measured |= scores(predicted, holdout)
    if isinstance(model, GenerativeModel):
        measured |= log_likelihood(model, x, params.seed, samples).summary()
    return measured


def draw_alone(params: Params, layout: Layout, folder: Path, out: Path, wanted: Sequence[str]) -> list[str]:
    """Draw the saved model in ``folder``, of an ensemble its first member; see `al_dgm.learning.drawing.draw_model`.

    Raises:
        ConfigError: the model is one of other data, or a picture is unknown.
        DataError: a file is missing or damaged, or the model has nothing to draw.
    """
    from al_dgm.learning.drawing import Subject, draw_model  # noqa: PLC0415 - matplotlib takes a second

    info = load_info(layout.prepared)
    model, spec, _ = load_alone(folder, info)
    set_up_torch(params.compute)
    if not isinstance(model, GenerativeModel):
        raise DataError(f"{folder}: expected a generative model such as m2, got '{spec.name}', which has no latents")
    return draw_model(
        Subject(members_of(model)[0], info, load_holdout(layout.prepared, info), params.seed), out, wanted
    )


def load_alone(folder: Path, info: DatasetInfo) -> tuple[Model, ModelSpec, str]:
    """The model in ``folder``, what it is, and its version.

    Raises:
        ConfigError: it is one of other data.
        DataError: a file is missing or damaged.
    """
    found = load_model(folder)
    _refuse_others(folder, found[1], of_data(info))
    return found


def _check_unsupervised(model: Model, params: Params) -> None:
    """Refuse to learn from no label what is learnt from labels only."""
    if model.generative and params.training.unlabelled_batch:
        return
    reason = "training.unlabelled_batch is 0" if model.generative else f"model '{params.model.name}' is supervised"
    raise DataError(f"--labels: expected at least one, since {reason}, got none")


def _start(
    folder: Path, spec: ModelSpec, model: Model, layout: Layout, info: DatasetInfo
) -> tuple[Mapping[str, Tensor], str]:
    """The saved weights that ``model`` is to start from, and their version."""
    saved, about, version = load_model(folder)
    _refuse_others(folder, about, {"name": spec.name, "ensemble": spec.ensemble, **of_data(info)})
    _refuse_leaks(folder, load_holdout(layout.prepared, info))
    try:
        model.load_state_dict(saved.state_dict())
    except RuntimeError as error:
        other = _difference(spec, about) or str(error).splitlines()[1].strip().rstrip(".")
        raise ConfigError(f"--from {folder}: expected a model with the sizes of model.{spec.name}: {other}") from None
    return saved.state_dict(), version


def _difference(spec: ModelSpec, saved: ModelSpec) -> str | None:
    """The first option that two models of one name do not share."""
    for option, value in spec.options.items():
        if option in saved.options and saved.options[option] != value:
            return f"{option} {value}, got {saved.options[option]}"
    return None


def _refuse_finished(out: Path, about: Mapping[str, Any]) -> None:
    """Refuse a folder with a model, but for one of the same parameters whose measuring was killed."""
    if not (out / SPEC).exists():
        return
    begun = (out / ABOUT).exists() and read_json(out / ABOUT) == json.loads(json.dumps(about))
    if not begun or (out / TIMINGS).exists():
        raise ConfigError(f"--out {out}: a model is there already; name another folder, or remove it")


def _refuse_others(folder: Path, saved: ModelSpec, wanted: Mapping[str, Any]) -> None:
    """Refuse a saved model that is not the one that is wanted.

    Raises:
        ConfigError: with the first difference.
    """
    for name, value in wanted.items():
        if getattr(saved, name) == value:
            continue
        if name == "model_space":
            raise ConfigError(
                f"{folder}: expected a model of the prepared data, got one of other features or of another scale"
            )
        raise ConfigError(f"{folder}: expected a model with {name} {value}, got {getattr(saved, name)}")


def _refuse_leaks(folder: Path, holdout: Holdout) -> None:
    """Refuse to measure a model, or one that starts from it, on examples whose labels it has learnt.

    Raises:
        ConfigError: with one of them.
    """
    if leaked := labelled_ids(folder) & set(holdout.ids.tolist()):
        raise ConfigError(
            f"{folder}: expected a model that saw no label of the holdout, got one that saw {len(leaked)} of "
            f"{len(holdout.ids)}, such as '{min(leaked)}'; was it trained with another seed?"
        )


def _in_use(params: Params) -> dict[str, Any]:
    """What decides the result."""
    return {
        "seed": params.seed,
        "model": params.model.in_use(),
        "training": params.training.model_dump(exclude={"start"}),
        "prediction": params.prediction.model_dump(),
    }
