"""Name and options in, object out: a component's constructor signature is its schema, a plain dict its registry.

    MODELS = {"m2": M2, "sdgm": SDGM}
    build(MODELS, "m2", {"latent": 8}, path="model.m2", features=64)

Options come from params.yaml and are checked against the constructor's annotations; keyword arguments given here
(``features=64``) come from the program and are not the user's to set.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError, create_model

from al_dgm.errors import ConfigError

T = TypeVar("T")
SHOWN = 100  # characters of a wrong value in a message


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known name, or the empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def lookup(registry: Mapping[str, T], name: str, path: str) -> T:
    """The entry ``name``.

    Raises:
        ConfigError: there is no such entry; the message names the nearest one and all there are.
    """
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise ConfigError(f"{path}: unknown name '{name}'{nearest(name, registry)}; expected one of: {known}")
    return registry[name]


def checked_options(
    component: Callable[..., Any], options: Mapping[str, Any], path: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """``options`` converted to the types that ``component``'s signature declares.

    Args:
        component: class or function whose parameters are the schema.
        options: what the user wrote.
        path: where in params.yaml it was written, for the message.
        given: parameters that the program itself fills in, hidden from the user.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type.
    """
    target = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(target, include_extras=True)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(component).parameters.items()
        if name not in set(given) and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    for name in options:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise ConfigError(f"{path}.{name}: unknown option{nearest(name, parameters)}; expected one of: {known}")
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters.items()
    }
    schema = create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
    try:
        checked = schema(**options)
    except ValidationError as error:
        raise ConfigError(describe(error, path)) from None
    return {name: getattr(checked, name) for name in options}


def build(
    registry: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any], path: str, **given: Any
) -> T:
    """The component ``name`` made from the user's ``options`` and what the program gives."""
    component = lookup(registry, name, path)
    checked = checked_options(component, options, path, given)
    try:
        return component(**checked, **given)
    except ConfigError as error:  # a constructor knows its option's name, but not where it was written
        message = str(error)
        raise ConfigError(message if message.startswith(path) else f"{path}.{message}") from None


def describe(error: ValidationError, path: str = "") -> str:
    """The first failure of a pydantic check as one line: path, what was expected, what came.

    Of options, which are under a ``path``, a failure of every type that one may have counts as a single one.
    """
    first = error.errors()[0]
    ways = [one for one in error.errors() if path and one["loc"][0] == first["loc"][0]]
    alike, loc = ([first], first["loc"]) if len(ways) < 2 else (ways, first["loc"][:1])
    where = ".".join([path, *map(str, loc)] if path else [*map(str, loc)])
    message = ", or ".join(dict.fromkeys(_lowered(one["msg"].removeprefix("Value error, ")) for one in alike))
    more = f" (and {error.error_count() - len(alike)} more)" if error.error_count() > len(alike) else ""
    # Our own rules, which are about several keys, say themselves what they found.
    told = first["type"] in {"value_error", "missing", "extra_forbidden"}
    got = "" if told else f", got {_shortened(first['input'])}"
    return f"{where}: {message}{got}{more}".removeprefix(": ")


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
