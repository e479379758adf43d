# What the rules share: the validated configuration, the scan, and how a verb is called.
REPOSITORY = Path(workflow.basedir).parent
sys.path.insert(0, str(REPOSITORY))

from hvlabel.branches.table import row_of
from hvlabel.cache.at_work import take
from hvlabel.cache.index import drop_untrue, publish_scan
from hvlabel.cache.left_overs import sweep
from hvlabel.config.tree import beside_config, parse_config
from hvlabel.errors import MENDABLE, printable, sentence_of
from hvlabel.layout import Layout
from hvlabel.manifest import scan

# what makes and removes nothing may be asked while a run is at work
ONLY_ASKS = {
    *("--lint", "--list", "--list-rules", "--list-target-rules", "--summary"),
    *("--detailed-summary", "--dag", "--rulegraph", "--filegraph", "--d3dag"),
}
DRY = workflow.output_settings.dryrun or bool(ONLY_ASKS.intersection(sys.argv))


def as_inputs(files):
    """Paths of files that a rule reads; Snakemake would take braces in them for wildcards."""
    for path in map(str, files):
        if "{" in path or "}" in path:
            raise WorkflowError(
                f"{path}: a file that the workflow reads may have no braces in its path; rename it"
            )
    return [str(path) for path in files]


try:
    CONFIG_FOLDERS = [Path(path).parent for path in reversed(workflow.configfiles)]
    CONFIG = parse_config(
        beside_config(config, CONFIG_FOLDERS), "configuration"
    ).resolved()
    LAYOUT = Layout(Path(CONFIG.results))
    # before Snakemake locks its working directory, which says nothing of who works on the results
    if workflow.is_main_process and not DRY:
        left = take(LAYOUT)
        if left:
            logger.warning(printable(left))
    BRANCHES = CONFIG.fusion.branches
    BRANCH_SETTINGS = CONFIG.on(BRANCHES)
    NETWORKS = {b: s.network() for b, s in BRANCH_SETTINGS.items()}
    NETWORK_FILES = {b: as_inputs(n.files()) if n else [] for b, n in NETWORKS.items()}
    # descriptors by name are put in full, so that an edited descriptor file re-runs what depends on it
    DATASETS = {
        name: (d if d.demo else d.model_copy(update={"descriptor": d.described(name)}))
        for name, d in CONFIG.datasets.items()
    }
    SCAN = scan(CONFIG)
    if not SCAN.images:
        raise WorkflowError(
            printable("no image to work on: " + "; ".join(SCAN.problems))
        )
    if workflow.is_main_process:
        for problem in SCAN.problems:
            logger.warning(printable(problem))
        for reason in {s.why_no_network() for s in BRANCH_SETTINGS.values()} - {None}:
            logger.warning(f"no SAM, branches set to auto use regions: {reason}")
        if not DRY:
            publish_scan(LAYOUT, SCAN)
            for path in sweep(LAYOUT.root):
                logger.info(
                    printable(f"{path}: left half made by a killed process; removed")
                )
        # an index that lists a vanished file, or builds on one, would pass for up to date
        retry_all = CONFIG.run.retry == "failed"
        for index, reason in drop_untrue(
            LAYOUT, dry=DRY, branches=BRANCHES, retry_all=retry_all
        ).items():
            logger.info(printable(f"{index}: {reason}; will be made again"))
except MENDABLE as error:
    raise WorkflowError(sentence_of(error))

validate(
    config, str(REPOSITORY / "workflow/schemas/config.schema.json"), set_default=False
)

# what jobs are given, as text once: Snakemake asks for it several times a job
SOURCES = {name: dataset.model_dump_json() for name, dataset in DATASETS.items()}
SETTINGS = {branch: settings.to_json() for branch, settings in BRANCH_SETTINGS.items()}

RESULTS = CONFIG.results
RUN = str(LAYOUT.pretrain(CONFIG.pretrain.run))
DISTILL = CONFIG.pretrain.follows(CONFIG.teacher.backend)
REPORT = str(LAYOUT.report)

# Under --use-conda the rule's environment brings Python; otherwise it is the one that runs Snakemake. These are no
# params: neither the interpreter nor how a run is cut into jobs changes a result.
CONDA = any(str(m) == "conda" for m in workflow.deployment_settings.deployment_method)
PYTHON = "python" if CONDA else sys.executable
if CONDA and not shutil.which("conda"):
    raise WorkflowError(
        "--use-conda is given but no conda is on PATH: install conda >= 24.7.1, or leave the flag out and use make install"
    )
# where stages are shown, what a verb answers belongs into its job's log, to which its error output goes
SHOWN = os.environ.get("HVLABEL_SHOW") or ("stages" if sys.stderr.isatty() else "jobs")
if SHOWN not in ("stages", "jobs"):
    raise WorkflowError(
        f"HVLABEL_SHOW is {SHOWN!r}; expected stages or jobs, or leave it out"
    )
ANSWERS = " >&2" if SHOWN == "stages" else ""
PREFIX = (
    f"export PYTHONPATH={shlex.quote(str(REPOSITORY))} HVLABEL_RESULTS={shlex.quote(RESULTS)}"
    f" HVLABEL_RUN={shlex.quote(CONFIG.run.model_dump_json())};"
    f" export HVTRAIN_SETTINGS={shlex.quote(CONFIG.pretrain.model_dump_json())};"
    f' hvlabel() {{ {shlex.quote(PYTHON)} -m hvlabel "$@"{ANSWERS}; }};'
    f' hvtrain() {{ {shlex.quote(PYTHON)} -m hvtrain "$@"{ANSWERS}; }}; '
)
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))


def elsewhere():
    """Whether a scheduler places the jobs on other machines. Known once jobs are chosen, not while rules are read."""
    executor = workflow.executor_plugin
    return executor is not None and executor.common_settings.non_local_exec


def gpus_for(network):
    """GPUs that a job needs: one for a network, none where this machine runs the jobs and has none.

    Asking for what is not there would let jobs of CPUs wait for each other.
    """
    if network is None or CONFIG.run.device == "cpu":
        return 0
    here = shutil.which("nvidia-smi") is not None
    return int(elsewhere() or here or CONFIG.run.device == "cuda")


def gpu_resources(n_gpus):
    """Resources of a rule whose jobs need n_gpus(wildcards) GPUs.

    A limit of the run on a resource holds for what a scheduler is asked for as well. So what is counted on this machine
    has a name of its own: own_gpus. gpu and gres are what the plugin for SLURM turns into --gpus and --gres.
    """
    by_gres = CONFIG.run.gpu_request == "gres"
    return {
        "own_gpus": lambda wildcards: 0 if elsewhere() else n_gpus(wildcards),
        "gpu": lambda wildcards: (
            n_gpus(wildcards) if elsewhere() and not by_gres else 0
        ),
        "gres": lambda wildcards: (
            gres(n_gpus(wildcards)) if elsewhere() and by_gres else ""
        ),
    }


def gres(n_gpus):
    """Generic resources as SLURM writes them."""
    return f"gpu:{n_gpus}" if n_gpus else ""


wildcard_constraints:
    dataset="[^/]+",
    shard=r"\d{4}",
    branch="|".join(BRANCHES),


def indexes(stage):
    """Index files of all shards of a stage."""
    return [str(LAYOUT.index(stage, *shard)) for shard in SCAN.shards()]


def index_of(stage):
    """Pattern of a stage's index files."""
    return str(LAYOUT.index(stage, "{dataset}", "{shard}"))


def log_of(stage):
    """Pattern of the logs of a stage's jobs."""
    return str(LAYOUT.log(stage, "{dataset}", "{shard}"))


def images(wildcards):
    """Changes when an image of the shard comes, goes or is replaced."""
    return SCAN.fingerprint(wildcards.dataset, wildcards.shard)


def drawn(wildcards):
    """Changes when a box or point file of the shard comes, goes or is replaced, for branches that read them."""
    if not row_of(wildcards.branch).reads_prompts:
        return ""
    return SCAN.drawn_fingerprint(wildcards.dataset, wildcards.shard)


def backbone_files(run):
    """What a downstream run reads its backbone from; the pre-training run is made where it is missing."""
    return [f"{RUN}/run.json"] if run.folder_or_file == RUN else as_inputs(run.files)
