# Masks of all branches to labels.
rule fuse:
    input:
        [index_of(branch) for branch in BRANCHES],
        as_inputs(CONFIG.fusion.files()),
    output:
        index_of("labels"),
    log:
        log_of("labels"),
    conda:
        "../envs/hvlabel.yaml"
    params:
        settings=CONFIG.fusion.to_json(),
    shell:
        "hvlabel fuse --shard {wildcards.dataset}/{wildcards.shard}"
        " --settings {params.settings:q} 2> {log:q}"
