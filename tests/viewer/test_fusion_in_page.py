"""What the page's script keeps is what the fusion keeps, whatever the settings; run with Node where there is one."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import IMAGE, data_of

from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.fusion import fuse
from hvlabel.masks import read_masks
from hvlabel.masks.maskset import REASONS
from hvlabel.quality import judge
from hvlabel.viewer.template import ASSETS

NODE = shutil.which("node")
SCRIPT = """
(async () => {
  const { page, all } = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const codes = await unpackedLines(page.masks);
  page.neighbours = neighboursOf(page.candidates, await unpacked(page.candidates.pairs));
  page.piecesOfCandidate = (k) => piecesOf(codes[page.candidates.mask[k]], page.height);
  console.log(JSON.stringify(all.map((settings) => {
    const { kept, lost } = fuse(page, settings);
    return { kept, lost: [...lost] };
  })));
})();
"""


def in_node(page, all_settings):
    """What the page's script makes of some settings."""
    if NODE is None:
        pytest.skip("no node on PATH")
    code = "\n".join((ASSETS / name).read_text() for name in ("packed.js", "masks.js", "fusion.js")) + SCRIPT
    given = json.dumps({"page": page, "all": all_settings})
    done = subprocess.run([NODE, "-e", code], input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def settings_of(page, n, seed):
    """The page's settings with some of them drawn anew, the edges of their ranges among them."""
    rng = np.random.default_rng(seed)

    def one(values):
        return values[rng.integers(len(values))]

    for k in range(n):
        yield {
            **page["settings"],
            "ranking": ["quality", "agreement", "votes"][k % 3],
            "iou_threshold": float(one([0.05, 0.3, 0.8, 1.0, rng.uniform(0.05, 1)])),
            "min_quality": float(one([0.0, 0.2, rng.uniform()])),
            "min_area_px": int(one([1, 20, 60])),
            "nested_iou": float(one([1.0, 0.6, 0.05])),
            "coverage": one([None, 0.5, 1.0]),
            "vote_bonus": float(one([0.0, 0.2, 1.0])),
            "weights": {name: float(one([1.0, 1.0, 0.5, 0.0])) for name in page["settings"]["weights"]},
        }


def test_it_keeps_what_the_fusion_keeps(page_html, finished):
    page = data_of(page_html)
    all_settings = list(settings_of(page, 60, seed=1))
    branches = [read_masks(finished.masks(branch, *IMAGE)) for branch in page["branches"]]
    judged = judge(branches, open_cube(finished.cube(*IMAGE)))
    masks = [mask for branch in branches for mask in branch.masks]
    name_of = list(zip(page["candidates"]["branch"], page["candidates"]["id"], strict=True))
    numbers, reasons = set(), set()
    for settings, answer in zip(all_settings, in_node(page, all_settings), strict=True):
        label = fuse(judged.branches, FusionSettings(**settings), judged.expected_iou)
        kept = [(masks[m["candidate"]].rle, m["score"], m["votes"]) for m in answer["kept"]]
        assert kept == [(m.rle, m.score, list(m.votes)) for m in label.masks]  # in their order, to the last digit
        place_of = {m["candidate"]: place for place, m in enumerate(answer["kept"])}
        lost = {name_of[k]: (of["reason"], place_of.get(of["by"])) for k, of in answer["lost"]}
        assert lost == {(s.branch, s.mask_id): (s.reason, s.by) for s in label.suppressed}
        numbers.add(len(kept))
        reasons |= {reason for reason, _ in lost.values()}
    assert len(numbers) > 12  # the settings make a difference
    assert reasons == set(REASONS)


def test_the_label_s_own_settings_give_the_label(page_html, finished):
    page = data_of(page_html)
    [answer] = in_node(page, [page["settings"]])
    assert [m["candidate"] for m in answer["kept"]] == [row["candidate"] for row in page["label"]]
