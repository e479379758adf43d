"""What users see of errors."""

import pytest

from hvlabel.errors import BandError, ResultsError, run_program, sentence_of


def test_sentences():
    assert sentence_of(BandError("no band at 5 nm")) == "no band at 5 nm"
    assert sentence_of(ResultsError("results: cannot lock")) == "results: cannot lock"  # an OSError too, but ours
    assert sentence_of(PermissionError(13, "Permission denied", "a.txt")) == (
        "a.txt: Permission denied; check permissions, space and mounts"
    )
    assert sentence_of(OSError("the disk is gone")).startswith("input/output: the disk is gone; check")


def test_what_can_be_mended_is_one_line_and_status_two(capsys):
    def program():
        raise BandError("no band at 5 nm")

    with pytest.raises(SystemExit) as stop:
        run_program("hvlabel", program)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "hvlabel: error: no band at 5 nm\n"


def test_our_own_mistakes_keep_their_traceback():
    def program():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program("hvlabel", program)
