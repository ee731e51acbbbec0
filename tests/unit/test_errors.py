import pytest

from al_dgm import errors
from al_dgm.errors import AlDgmError, ConfigError, LabelsPendingError, PoolExhaustedError, one_line_errors


def ended(failure, capsys):
    """Exit code and standard error of a command that ends in ``failure``."""
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise failure
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (ConfigError("seed: unknown key"), 1, "al-dgm: error: seed: unknown key\n"),
        (LabelsPendingError("3 of 4"), 75, "al-dgm: waiting: 3 of 4\n"),
        (PoolExhaustedError(10, 5), 1, "al-dgm: error: pool exhausted: requested 10 examples, available 5\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), 1, "al-dgm: error: x.csv: No such file\n"),
        (OSError("odd"), 1, "al-dgm: error: odd\n"),
        (KeyboardInterrupt(), 130, "al-dgm: interrupted\n"),
    ],
)
def test_a_deliberate_failure_is_one_line(failure, code, line, capsys):
    """The exit code is the class's, and what is printed one line on standard error."""
    assert ended(failure, capsys) == (code, line)


def test_a_mistake_of_ours_keeps_its_traceback():
    """What nobody raised on purpose is not hidden."""
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError


def test_success_passes():
    """Nothing is printed, nothing ends."""
    with one_line_errors():
        pass


def test_the_tree_in_the_docstring_is_the_tree():
    """Every class of the module is drawn, and everything is an `AlDgmError`."""
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    for own in classes:
        assert issubclass(own, AlDgmError)
        assert own.__name__ in errors.__doc__
