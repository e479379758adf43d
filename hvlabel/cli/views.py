"""Verbs for people: look into files, pictures and pages of a run, its scores, its soundness."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvlabel import __version__
from hvlabel.cli.app import DEFAULT_CONFIG, RESULTS, ConfigPath, ResultsPath, RunJson, app, say, settings_of
from hvlabel.config import RunSettings
from hvlabel.config.tree import config_schema
from hvlabel.errors import ConfigError, ResultsError, TooManyFailuresError
from hvlabel.layout import Layout

if TYPE_CHECKING:
    from hvlabel.inspect.summary import RunSummary

SHOWN_FAILURES = 20
MOVED_ASIDE = re.compile(r"-[0-9a-f]{8}(-\d+)?$")  # how the folder of an older pre-training run ends


@app.command()
def describe(raw: Annotated[Path, typer.Argument(help="raw file, or a folder with one PNG per band")]) -> None:
    """Look into a raw file of an unknown camera: what it holds, and a descriptor to start from."""
    from hvlabel.describe import describe as look

    say(look(raw))


@app.command()
def report(
    results: ResultsPath = RESULTS,
    max_pages: Annotated[
        int, typer.Option(min=0, help="images that get a page of their own: the worst, and as many evenly spread")
    ] = 12,
    config: ConfigPath = DEFAULT_CONFIG,
    run: RunJson = None,
) -> None:
    """The gallery of a run: pictures, counts, seconds, failures, scores; pages of images; quality.tsv and .parquet."""
    from hvlabel.inspect.report import write_report

    layout = Layout(results)
    below = settings_of(RunSettings, "run", run, config).warn_below
    made = write_report(layout, max_pages, below)
    say(f"{layout.report}: {made.n_pictures} pictures, {made.n_pages} pages")


@app.command()
def evaluate(
    results: ResultsPath = RESULTS, top: Annotated[int, typer.Option(help="masks per image that count")] = 100
) -> None:
    """Scores of every branch and of the label where ground truth exists; also in evaluation.tsv and calibration.tsv."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.inspect.evaluate import calibration_table, evaluate_run, evaluation_table, markdown, tsv

    layout = Layout(results)
    rows = evaluate_run(layout, top)
    if not rows:
        raise ConfigError(
            f"{results}: no labelled image has ground truth; demo scenes bring their own, and "
            "`hvlabel import FILE --as truth` takes in yours"
        )
    table = evaluation_table(rows, top)
    publish_bytes(layout.evaluation, tsv(table))
    publish_bytes(layout.calibration, tsv(calibration_table(rows)))
    say(markdown(table))


@app.command()
def quality(
    results: ResultsPath = RESULTS,
    n_worst: Annotated[int, typer.Option("--worst", min=0, help="labels in the list of the worst")] = 10,
    config: ConfigPath = DEFAULT_CONFIG,
    run: RunJson = None,
) -> None:
    """How good the labels seem, without ground truth: by data set, and the worst ones first."""
    from hvlabel.cache.index import require_results
    from hvlabel.inspect.evaluate import markdown
    from hvlabel.inspect.quality import by_dataset, label_qualities, publish_qualities, warnings_of, worst

    layout = Layout(results)
    require_results(layout)
    labels = label_qualities(layout)
    if not labels:
        raise ResultsError(f"{results}: no labels yet; run `snakemake pseudolabels` first")
    publish_qualities(layout, labels)
    say(markdown(by_dataset(labels)))
    if n_worst:
        say("\nworst first:\n\n" + markdown(worst(labels, n_worst)))
    for sentence in warnings_of(labels, settings_of(RunSettings, "run", run, config).warn_below):
        say(sentence)
    say(f"all labels: {layout.quality} and .parquet")


@app.command()
def status(
    results: ResultsPath = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """How far a run is, also while it is at work: images done, per hour, time left, by stage and data set."""
    from hvlabel.inspect.evaluate import markdown
    from hvlabel.inspect.status import progress_of, table_of

    progress = progress_of(Layout(results))
    if as_json:
        say(json.dumps([p._asdict() for p in progress]))
        return
    say(markdown(table_of(progress)))
    labels = [p for p in progress if p.stage == "labels"]  # an image that has one is through
    n_done = sum(p.n_done for p in labels)
    n_images = sum(p.n_images for p in labels)
    say(f"{n_done} of {n_images} images are through; {sum(p.n_failed for p in progress)} failed or left out")


@app.command()
def verify(
    results: ResultsPath = RESULTS,
    deep: Annotated[bool, typer.Option(help="read and hash every byte of every cube")] = False,
    repair: Annotated[
        bool,
        typer.Option(help="remove what is damaged, and move aside what was edited, so that the next run remakes it"),
    ] = False,
    table: Annotated[bool, typer.Option("--table", help="also count the images of every stage by their state")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the same, and every finding, as JSON")] = False,
) -> None:
    """Check every file of a run against its index, key and seal; exit status 1 if one is missing or damaged."""
    from hvlabel.inspect.evaluate import markdown
    from hvlabel.inspect.verify import STATES, verify_run
    from hvlabel.inspect.verify import repair as remove

    layout = Layout(results)
    verdict = verify_run(layout, deep=deep)
    if as_json:
        if repair:
            remove(layout, verdict.problems)
        say(verdict.to_json())
        raise typer.Exit(1 if verdict.problems and not repair else 0)
    n_of = Counter(finding.state for finding in verdict.findings)
    for finding in verdict.findings:
        if finding.state in ("stale", "corrupt", "orphan"):
            say(finding.sentence)
    for path in verdict.corrected:
        say(f"{path}: corrected by hand and accepted")
    for path in verdict.left_overs:
        say(f"{path}: half made; the next run removes it, unless somebody is at work on it")
    if table:
        counts = []
        for stage, of_stage in verdict.counts().items():
            counts.append([stage, *map(str, of_stage.values())])
        say(markdown([["stage", *STATES], *counts]))
    advice = ""
    if repair:
        remove(layout, verdict.problems)
    if verdict.problems:
        removed, offered = "; removed, run the workflow to remake them", "; --repair removes them for the next run"
        advice = removed if repair else offered
    others = "".join(f", {n_of[state]} {state}" for state in ("failed", "undone", "orphan") if n_of[state])
    say(f"{verdict.checked} files checked, {len(verdict.problems)} missing or damaged{others}{advice}")
    if verdict.problems and not repair:
        raise typer.Exit(1)


@app.command()
def accept(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="mask files that you edited, e.g. results/labels/DATASET/IMAGE.json, or decisions saved from the page "
            "of `hvlabel view`, DATASET__IMAGE.decisions.json"
        ),
    ],
    results: ResultsPath = RESULTS,
) -> None:
    """Seal labels or masks that were corrected by hand: every run keeps them, training uses them."""
    from hvlabel.cli.viewing import say_accepted
    from hvlabel.stages.accept import accept_decisions, accept_file
    from hvlabel.stages.decisions import is_decisions_file

    for path in files:
        if is_decisions_file(path):
            say_accepted(accept_decisions(path, Layout(results)))
            continue
        say(f"{path}: {accept_file(path)} masks, kept as corrected; delete the file to have it made anew")


@app.command()
def unlock(results: ResultsPath = RESULTS) -> None:
    """Forget a run that was killed on another machine, and the locks that it left in this folder."""
    from hvlabel.cache.at_work import unlock as forget

    say(forget(Layout(results)) or f"{results}: no run is at work here, nothing to unlock")


@app.command()
def summary(
    results: ResultsPath = RESULTS,
    check: Annotated[bool, typer.Option(help="fail if more images failed than run.max_failed_share allows")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    run: RunJson = None,
) -> None:
    """What a run has made, and where it is."""
    from hvlabel.inspect.quality import label_qualities, warnings_of
    from hvlabel.inspect.summary import summarise

    layout = Layout(results)
    made = summarise(layout)
    settings = settings_of(RunSettings, "run", run, config)
    _say_what_was_made(layout, made)
    for sentence in warnings_of(label_qualities(layout), settings.warn_below):
        say(f"  {sentence}")
    for what, path in (("labels", layout.labels), ("pictures", layout.pictures), ("report", layout.report)):
        say(f"{what + ':':10}{path}")
    for evaluation in sorted(layout.pretrain("").glob("*/evaluation.md")):
        if not MOVED_ASIDE.search(evaluation.parent.name):
            table = evaluation.read_text(encoding="utf-8").rstrip()
            say(f"{'trained:':10}{evaluation.parent}\n{table}")
    allowed = settings.max_failed_share
    not_final = [failure for failure in made.failures if not failure.is_final]
    # whatever their share: these would be made by another run
    if check and (not_final or made.n_undone):
        example = f", e.g. {not_final[0].reason}" if not_final else ""
        raise TooManyFailuresError(
            f"not done: {len(not_final)} images failed for what is not theirs, {made.n_undone} were not tried"
            f"{example}; run again, it tries them and keeps all others"
        )
    if check and len(made.failures) > allowed * made.n_images:
        raise TooManyFailuresError(
            f"{len(made.failures)} of {made.n_images} images failed, more than run.max_failed_share {allowed:g} "
            "allows; all others are done: mend the images or raise it"
        )


def _say_what_was_made(layout: Layout, made: RunSummary) -> None:
    """Counts, failures, and what else one should know."""
    from hvlabel.cache.index import read_problems

    labels = made.stages[-1]
    undone = f", {made.n_undone} not done" if made.n_undone else ""
    n_failures = len(made.failures)
    say(f"{labels.n_ok} of {made.n_images} images labelled with {labels.masks} masks, {n_failures} failures{undone}")
    for failure in made.failures[:SHOWN_FAILURES]:
        again = "" if failure.is_final else " (not the image's fault: the next run tries again)"
        say(f"  {failure.stage} {failure.dataset}/{failure.image_id}: {failure.reason}{again}")
    if len(made.failures) > SHOWN_FAILURES:
        say(f"  ... and {len(made.failures) - SHOWN_FAILURES} more, all in the report")
    for sentence in (*read_problems(layout), *made.notes):
        say(f"  {sentence}")
    if made.caution:
        say(made.caution)


@app.command()
def schema() -> None:
    """The JSON schema of the configuration."""
    say(config_schema().rstrip())


@app.command()
def version() -> None:
    """The version of hvlabel."""
    say(__version__)
