"""The data card: what lies on the disk, what is equal, what cannot be read."""

import h5py
import numpy as np
import scipy.io
import yaml
from verbs import hvlabel

from hvlabel.config.tree import parse_config
from hvlabel.descriptors import Descriptor
from hvlabel.inspect.datacard import Card, DataCard, data_card
from hvlabel.manifest import scan

RNG = np.random.default_rng(0)
SCENES = [RNG.uniform(0, 1, (10, 14, 33)) for _ in range(3)]


def tree(folder):
    """Two data sets: a, b and c in MATLAB v5, c among them cut off; a again as float32 in v7.3, and one of another size."""
    outdoor, minho = folder / "outdoor", folder / "minho"
    outdoor.mkdir()
    minho.mkdir()
    for name, scene in zip("abc", SCENES, strict=True):
        scipy.io.savemat(outdoor / f"{name}.mat", {"hsi": scene}, do_compression=True)
    (outdoor / "c.mat").write_bytes((outdoor / "c.mat").read_bytes()[:500])
    for name, scene in (("same", SCENES[0]), ("other", RNG.uniform(0, 1, (20, 24, 33)))):
        with h5py.File(minho / f"{name}.mat", "w", userblock_size=512) as file:
            file["reflectances"] = scene.astype("f4").transpose(2, 1, 0)
        with (minho / f"{name}.mat").open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    return {
        "results": str(folder / "results"),
        "datasets": {
            "outdoor": {"root": str(outdoor), "descriptor": "fiftyoutdoor"},
            "minho": {"root": str(minho), "descriptor": "umos"},
            "empty": {"root": str(folder), "descriptor": "hsiroad"},
        },
    }


def test_the_card_counts_and_compares(tmp_path):
    config = parse_config(tree(tmp_path), "test")
    card = data_card(config, scan(config))
    head, outdoor, minho, empty = (dict(zip(card.rows()[0], row, strict=True)) for row in card.rows())
    assert outdoor["data set"] == "50 Outdoor"
    assert (outdoor["images"], outdoor["expected"], outdoor["unreadable"], outdoor["equal"]) == ("2", "50", "1", "1")
    assert (outdoor["bands"], outdoor["range nm"], outdoor["resolution px"]) == ("33", "400-720", "14x10")
    assert (minho["images"], minho["equal"], minho["resolution px"]) == ("2", "1", "14x10 to 24x20")
    assert (empty["images"], empty["expected"], empty["bands"]) == ("0", "380", "25")
    assert card.equal == (("outdoor/a", "minho/same"),)
    assert "KiB" in outdoor["size"]
    text = card.markdown()
    assert "outdoor/a = minho/same" in text
    assert "c.mat: the element at byte 128" in text
    assert head["licence"] == "licence"
    assert card.tsv().count("\n") == 4


def test_the_command_writes_it(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree(tmp_path)))
    said = hvlabel("scan", "--table", "--config", tmp_path / "config.yaml").out
    assert "| 50 Outdoor | 33 | 400-720 |" in said
    assert (tmp_path / "results" / "datacard.md").read_text().rstrip() in said
    assert (tmp_path / "results" / "datacard.tsv").read_text().startswith("data set\tbands")


def test_names_and_notes_are_text_and_no_markup():
    about = {"title": "a|b", "source": "[here](javascript:x) <b>", "notes": ["one_two `c`\x1b[2J"]}
    descriptor = Descriptor.model_validate({"container": "npy", "wavelengths_nm": [500, 600], "about": about})
    card = DataCard((Card("d", descriptor),), ())
    text = card.markdown()
    assert r"| a\|b |" in text
    assert r"\[here\](javascript:x) \<b\>" in text
    assert r"one_two \`c\`" in text
    assert "\x1b" not in text + card.tsv()
