# Raw files to cubes; demo scenes are written first.
rule scenes:
    output:
        str(LAYOUT.scenes_index("{dataset}")),
    params:
        source=lambda w: DATASETS[w.dataset].model_dump_json(),
    log:
        f"{RESULTS}/logs/scenes/{{dataset}}.log",
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "{HVLABEL} scenes {wildcards.dataset} --results {RESULTS} --source {params.source:q} 2> {log}"


rule convert:
    input:
        lambda w: (
            str(LAYOUT.scenes_index(w.dataset)) if DATASETS[w.dataset].demo else []
        ),
    output:
        index_of("cubes"),
    params:
        source=lambda w: DATASETS[w.dataset].model_dump_json(),
        settings=CONFIG.cube.canonical(),
        images=images,
    log:
        f"{RESULTS}/logs/cubes/{{dataset}}/{{shard}}.log",
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "{HVLABEL} convert --shard {wildcards.dataset}/{wildcards.shard} --results {RESULTS}"
        " --source {params.source:q} --settings {params.settings:q} --run {RUN:q} 2> {log}"
