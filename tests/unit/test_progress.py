"""The progress bar: seen where work takes long, and nowhere else."""

import pytest

from al_dgm.progress import progress_bar


@pytest.mark.parametrize(
    ("options", "seen"), [({}, True), ({"shown": False}, False), ({"delay": 60.0}, False), ({"delay": 1e-9}, True)]
)
def test_a_bar_shows_its_label_unless_it_is_hidden_or_has_not_taken_its_delay(options, seen, capsys):
    with progress_bar(4, "scoring", **options) as bar:
        bar.mininterval = 0.0
        bar.update(2)
    assert ("scoring:  50%" in capsys.readouterr().err) == seen
