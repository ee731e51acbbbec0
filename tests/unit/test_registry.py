"""Name and options in, object out; a constructor's signature is the schema."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from al_dgm.errors import ConfigError
from al_dgm.registry import build, checked_options, lookup, nearest


class Net:
    """A component with options of several types."""

    def __init__(
        self,
        space: str,
        width: Annotated[int, Field(gt=0)] = 8,
        hidden: list[int] = [4],  # noqa: B006
        mode: Literal["fast", "exact"] = "fast",
        names: str | list[str] = "none",
        count: Literal["all"] | Annotated[int, Field(ge=2)] = "all",
    ):
        self.count = count
        self.space, self.width, self.hidden, self.mode, self.names = space, width, hidden, mode, names
        if names == "broken":
            raise ConfigError("names: expected something else")


def doubled(number: int, factor: float = 2.0) -> float:
    """A function may be registered too."""
    return number * factor


REGISTRY = {"net": Net, "doubled": doubled}


def test_options_reach_the_constructor_beside_what_the_program_gives():
    net = build(REGISTRY, "net", {"width": 3, "names": ["a", "b"]}, "model.net", space="S")
    assert (net.space, net.width, net.hidden, net.mode, net.names) == ("S", 3, [4], "fast", ["a", "b"])
    assert build(REGISTRY, "doubled", {"number": 4}, "x") == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"widht": 3},
            r"^model\.net\.widht: unknown option \(did you mean 'width'\?\); expected one of: width, hidden",
        ),
        ({"space": "mine"}, r"^model\.net\.space: unknown option"),  # the program's to give, not the user's
        ({"width": 0}, r"^model\.net\.width: input should be greater than 0, got 0$"),
        ({"width": "wide"}, r"^model\.net\.width: input should be a valid integer.*, got 'wide'$"),
        ({"width": 2.5}, r"^model\.net\.width: .*integer.*, got 2\.5$"),
        ({"hidden": [4, "x"]}, r"^model\.net\.hidden\.1: .*integer.*, got 'x'$"),
        ({"hidden": 4}, r"^model\.net\.hidden: input should be a valid list, got 4$"),
        ({"mode": "slow"}, r"^model\.net\.mode: input should be 'fast' or 'exact', got 'slow'$"),
        ({"count": 1}, r"^model\.net\.count: input should be 'all', or input should be greater .* to 2, got 1$"),
        ({"names": [2]}, r"^model\.net\.names: input should be a valid string, got \[2\]$"),
        ({"names": "broken"}, r"^model\.net\.names: expected something else$"),
    ],
)
def test_wrong_options_are_refused_with_their_path(options, message):
    with pytest.raises(ConfigError, match=message):
        build(REGISTRY, "net", options, "model.net", space="S")


def test_several_wrong_options_are_counted():
    with pytest.raises(ConfigError, match=r"\(and 1 more\)$"):
        build(REGISTRY, "net", {"width": 0, "mode": "slow"}, "model.net", space="S")


def test_a_missing_option_is_named():
    with pytest.raises(ConfigError, match=r"^x\.number: field required$"):
        build(REGISTRY, "doubled", {}, "x")


def test_an_unknown_name_is_refused_with_the_nearest_and_with_all():
    with pytest.raises(
        ConfigError, match=r"^model\.name: unknown name 'nett' \(did you mean 'net'\?\); expected one of: doubled, net$"
    ):
        lookup(REGISTRY, "nett", "model.name")
    with pytest.raises(ConfigError, match="unknown name 'xyz'; expected"):  # nothing is near
        lookup(REGISTRY, "xyz", "model.name")


def test_only_what_was_written_is_returned():
    """Defaults stay the constructor's."""
    assert checked_options(Net, {"mode": "exact"}, "p", given=["space"]) == {"mode": "exact"}


@pytest.mark.parametrize(("name", "expected"), [("entropi", " (did you mean 'entropy'?)"), ("qq", "")])
def test_nearest_names_only_what_is_near(name, expected):
    assert nearest(name, ["entropy", "bald"]) == expected
