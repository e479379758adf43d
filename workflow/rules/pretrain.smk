HARDWARE = CONFIG.pretrain.hardware
STUDENT = CONFIG.pretrain.student.checkpoint
STUDENT_FILES = [os.path.expanduser(STUDENT)] if STUDENT else []


# Cubes to features of a frozen RGB network.
rule teacher:
    input:
        index_of("cubes"),
        lambda w: as_inputs(CONFIG.teacher.files()),
    output:
        index_of("teacher"),
    log:
        log_of("teacher"),
    conda:
        "../envs/hvlabel.yaml"
    threads: CONFIG.run.threads
    resources:
        **gpu_resources(lambda w: gpus_for(CONFIG.teacher.chosen())),
    params:
        settings=CONFIG.teacher.to_json(),
    shell:
        "hvlabel teacher --shard {wildcards.dataset}/{wildcards.shard}"
        " --settings {params.settings:q} 2> {log:q}"


# Labels (and teacher features) to a backbone; a run that was interrupted goes on where it was.
rule fit:
    input:
        indexes("labels"),
        indexes("teacher") if DISTILL else [],
        as_inputs(STUDENT_FILES),
    output:
        f"{RUN}/run.json",
    log:
        str(LAYOUT.log("pretrain", CONFIG.pretrain.run)),
    conda:
        "../envs/hvlabel.yaml"
    threads: HARDWARE.processes() * (HARDWARE.threads + HARDWARE.workers)
    resources:
        **gpu_resources(lambda w: HARDWARE.gpus()),
    params:
        settings=CONFIG.pretrain.canonical(),
        teacher=CONFIG.teacher.to_json(),
    shell:
        "hvtrain fit --teacher {params.teacher:q} 2> {log:q}"


# What the finished backbone can do, per camera, beside the untrained one.
rule evaluate:
    input:
        rules.fit.output,
    output:
        f"{RUN}/evaluation.tsv",
        f"{RUN}/evaluation.md",
    log:
        str(LAYOUT.log("pretrain", f"{CONFIG.pretrain.run}.evaluation")),
    conda:
        "../envs/hvlabel.yaml"
    threads: HARDWARE.threads
    resources:
        **gpu_resources(lambda w: min(1, HARDWARE.gpus())),
    params:
        settings=CONFIG.pretrain.evaluation.model_dump_json(),
        teacher=CONFIG.teacher.to_json(),
    shell:
        "hvtrain evaluate --teacher {params.teacher:q} > /dev/null 2> {log:q}"
