"""One static HTML page over a run; pictures lie beside it, nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment

from hvlabel.branches.table import BRANCHES
from hvlabel.cache.index import all_indexes, read_problems
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.cube.bands import evenly_spread
from hvlabel.errors import HvError
from hvlabel.inspect.evaluate import evaluate_run, evaluation_table
from hvlabel.inspect.picture import encode_png, picture
from hvlabel.inspect.quality import by_dataset, label_qualities, publish_qualities, warnings_of, worst
from hvlabel.inspect.summary import RunSummary, summarise
from hvlabel.layout import Layout

MOST_WORST = 20  # labels in the list of the worst

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>hvlabel report</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1640px;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}
td,th{padding:.25rem .8rem;border-bottom:1px solid #d7dce1;text-align:right}
td:first-child,th:first-child,td.l,th.l{text-align:left}th{background:#f3f5f7;font-weight:600}
.note{background:#fff6d8;border-left:4px solid #d9a400;padding:.6rem 1rem;max-width:60rem}.bad{color:#a11}
figure{margin:0 0 1.4rem}img{max-width:100%;border:1px solid #d7dce1}figcaption{font-size:.9rem;color:#555}
</style></head><body>
<h1>Pseudo-labels: {{ run.labelled|length }} images</h1>
<p>Branches {{ run.backends|join(", ") }}.
Labels are in <code>labels/</code>, the masks of each branch in <code>masks/</code>.</p>
{% if run.caution %}<p class="note">{{ run.caution }}</p>{% endif %}
{% for note in run.notes %}<p class="note">{{ note }}</p>{% endfor %}
<h2>Stages</h2>
<table><tr><th>stage</th><th>made</th><th>failed</th><th>left out</th><th>masks</th>
<th>seconds</th><th>seconds per image</th></tr>
{% for s in run.stages %}<tr><td>{{ s.stage }}</td><td>{{ s.n_ok }}</td>
<td{% if s.n_failed %} class="bad"{% endif %}>{{ s.n_failed }}</td>
<td>{{ s.n_skipped }}</td><td>{{ s.masks or "" }}</td><td>{{ "%.1f"|format(s.seconds) }}</td>
<td>{{ "%.2f"|format(s.seconds / [s.n_ok, 1]|max) }}</td></tr>{% endfor %}</table>
<h2>Failures</h2>
{% if run.failures or problems %}
<table><tr><th>stage</th><th class="l">image</th><th class="l">what is wrong</th></tr>
{% for p in problems %}<tr><td></td><td class="l"></td><td class="l">{{ p }}</td></tr>{% endfor %}
{% for f in run.failures %}<tr><td>{{ f.stage }}</td><td class="l">{{ f.dataset }}/{{ f.image_id }}</td>
<td class="l">{{ f.reason }}</td></tr>{% endfor %}
</table>{% else %}<p>None.</p>{% endif %}
{% if evaluation %}<h2>Against ground truth</h2>
<table><tr>{% for cell in evaluation[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in evaluation[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>
{% endif %}
<h2>Quality</h2>
{% for sentence in warnings %}<p class="note">{{ sentence }}</p>{% endfor %}
<p>What is expected without ground truth; all labels are in <code>quality.tsv</code> and <code>.parquet</code>.</p>
{% for table in (datasets, worst) %}<table><tr>{% for cell in table[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>
{% endfor %}
<h2>Masks per image</h2>
<table><tr><th>image</th>{% for b in branches %}<th>{{ b }}</th>{% endfor %}
<th>fused</th><th>suppressed</th><th>foreground</th></tr>
{% for row in counts %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>
<h2>Pictures</h2>
<p>{{ pictures|length }} of {{ run.labelled|length }} images, evenly spread: RGB, then the best 60 masks of each branch,
then the fused label. <code>hvlabel show IMAGE</code> draws any other.</p>
{% for name, file in pictures %}<figure><img src="{{ file }}" alt="masks of {{ name }}" loading="lazy">
<figcaption>{{ name }}</figcaption></figure>{% endfor %}
</body></html>
"""


def write_report(layout: Layout, max_pictures: int, below: WarnBelow) -> int:
    """Write the page, its pictures, and the tables of the labels' quality; returns the number of pictures.

    below : limits of the warnings
    """
    run = summarise(layout)
    problems = read_problems(layout)
    branches = [s.stage for s in run.stages if s.stage in BRANCHES]
    pictures = _publish_pictures(layout, run, max_pictures)
    try:
        scores = evaluate_run(layout)
    except HvError as error:
        scores = []
        problems.append(f"no scores: {error}")
    labels = label_qualities(layout)
    publish_qualities(layout, labels)
    page = Environment(autoescape=True).from_string(PAGE)
    content = page.render(
        run=run,
        problems=problems,
        evaluation=evaluation_table(scores) if scores else None,
        warnings=warnings_of(labels, below),
        datasets=by_dataset(labels),
        worst=worst(labels, MOST_WORST),
        branches=branches,
        counts=_counts(layout, branches),
        pictures=[(name, _link(layout, path)) for name, path in pictures],
    )
    publish_bytes(layout.report, content.encode())
    return len(pictures)


def _publish_pictures(layout: Layout, run: RunSummary, max_pictures: int) -> list[tuple[str, Path]]:
    """Draw some images, evenly spread; (image, its picture's file) of each. Those of an earlier report go."""
    pictures: list[tuple[str, Path]] = []
    for k in evenly_spread(len(run.labelled), max_pictures):
        dataset, image_id = run.labelled[k]
        try:
            content = encode_png(picture(layout, dataset, image_id))
        except HvError:
            continue  # a file damaged since; `hvlabel verify` names it
        path = layout.pictures / f"{dataset}__{image_id}.png"
        publish_bytes(path, content)
        pictures.append((f"{dataset}/{image_id}", path))
    _drop_others(layout, {path for _, path in pictures})
    return pictures


def _link(layout: Layout, path: Path) -> str:
    """Address of a file beside the page; # and ? in its name are no parts of an address."""
    return quote(path.relative_to(layout.report.parent).as_posix())


def _drop_others(layout: Layout, shown: set[Path]) -> None:
    """Remove pictures of an earlier report that this one does not show."""
    for path in layout.pictures.glob("*.png"):
        if path not in shown:
            path.unlink()


def _counts(layout: Layout, branches: Sequence[str]) -> list[list[str]]:
    """image, masks per branch, label, suppressed, foreground share, as text."""
    n_masks: dict[tuple[str, str, str], str] = {}  # by branch, data set, image
    for branch in branches:
        for index in all_indexes(layout, branch):
            for name, entry in index.images.items():
                n_masks[branch, index.dataset, name] = str(entry.counts.get("masks", ""))
    rows = []
    for index in all_indexes(layout, "labels"):
        for name, entry in index.images.items():
            if entry.status != "ok":
                continue
            label = entry.counts
            of_branches = [n_masks.get((branch, index.dataset, name), "") for branch in branches]
            of_label = [str(label["masks"]), str(label["suppressed"]), f"{label['foreground_share']:.0%}"]
            rows.append([f"{index.dataset}/{name}", *of_branches, *of_label])
    return rows
