"""Attributes of modules that hold for a while: how a pass is told to be unlike others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def temporarily(modules: Iterable[nn.Module], **attributes: object) -> Iterator[None]:
    """Inside, all ``modules`` have these attributes; afterwards those that they had before."""
    modules = list(modules)
    before = [[getattr(module, name) for name in attributes] for module in modules]
    for module in modules:
        for name, value in attributes.items():
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, values in zip(modules, before, strict=True):
            for name, value in zip(attributes, values, strict=True):
                setattr(module, name, value)
