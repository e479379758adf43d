from hvlabel.config.downstream import runs_of

DOWNSTREAM = LAYOUT.downstream / "runs"
DOWNSTREAM_RUNS = {
    (Path(run.task.file).stem, run.name): run for run in runs_of(CONFIG.downstream, RUN)
}


# A frozen backbone and a task to a head; a run that was interrupted goes on where it was.
rule adapt:
    input:
        lambda w: backbone_files(DOWNSTREAM_RUNS[w.task, w.run]),
    output:
        f"{DOWNSTREAM}/{{task}}/{{run}}/run.json",
    log:
        str(LAYOUT.log("downstream", "{task}", "{run}")),
    conda:
        "../envs/hvlabel.yaml"
    threads: HARDWARE.threads
    resources:
        **gpu_resources(lambda w: min(1, HARDWARE.gpus())),
    params:
        options=lambda w: DOWNSTREAM_RUNS[w.task, w.run].options,
        device=HARDWARE.accelerator,
    shell:
        "hvtrain adapt {params.options:q} --device {params.device} --threads {threads} > /dev/null 2> {log:q}"


# All heads side by side.
rule compare:
    input:
        [f"{DOWNSTREAM}/{task}/{run}/run.json" for task, run in DOWNSTREAM_RUNS],
    output:
        f"{DOWNSTREAM}/compare.tsv",
        f"{DOWNSTREAM}/compare.md",
    log:
        str(LAYOUT.log("downstream", "compare")),
    conda:
        "../envs/hvlabel.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "hvtrain compare {params.folder:q} > /dev/null 2> {log:q}"
