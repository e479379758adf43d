# Masks of all branches to labels.
rule fuse:
    input:
        [index_of(branch) for branch in BRANCHES],
    output:
        index_of("labels"),
    params:
        settings=CONFIG.fusion.canonical(),
    log:
        f"{RESULTS}/logs/labels/{{dataset}}/{{shard}}.log",
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "{HVLABEL} fuse --shard {wildcards.dataset}/{wildcards.shard} --results {RESULTS}"
        " --settings {params.settings:q} --run {RUN:q} 2> {log}"
