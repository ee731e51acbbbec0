"""Stage `seed_set`: the labels that the loop starts from."""

from __future__ import annotations

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors


def main() -> None:
    """Choose the first examples and have them labelled."""
    params = load_params()
    from al_dgm.learning.labels import label_seed_set
    from al_dgm.learning.layout import Layout

    label_seed_set(params, Layout.here())


if __name__ == "__main__":
    with one_line_errors():
        main()
