# Raw files to cubes; demo scenes are written first.
rule scenes:
    output:
        str(LAYOUT.scenes_index("{dataset}")),
    log:
        str(LAYOUT.log("scenes", "{dataset}")),
    conda:
        "../envs/hvlabel.yaml"
    params:
        source=lambda w: SOURCES[w.dataset],
    shell:
        "hvlabel scenes {wildcards.dataset} --source {params.source:q} 2> {log:q}"


rule convert:
    input:
        lambda w: (
            str(LAYOUT.scenes_index(w.dataset)) if DATASETS[w.dataset].demo else []
        ),
    output:
        index_of("cubes"),
    log:
        log_of("cubes"),
    conda:
        "../envs/hvlabel.yaml"
    threads: CONFIG.run.threads
    params:
        source=lambda w: SOURCES[w.dataset],
        settings=CONFIG.cube.to_json(),
        images=images,
    shell:
        "hvlabel convert --shard {wildcards.dataset}/{wildcards.shard}"
        " --source {params.source:q} --settings {params.settings:q} 2> {log:q}"
