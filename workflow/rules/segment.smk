# Cubes to the masks of one branch.
rule segment:
    input:
        index_of("cubes"),
        lambda w: NETWORK_FILES[w.branch],
    output:
        index_of("{branch}"),
    log:
        log_of("{branch}"),
    conda:
        "../envs/hvlabel.yaml"
    threads: CONFIG.run.threads
    resources:
        **gpu_resources(lambda w: gpus_for(NETWORKS[w.branch])),
    params:
        settings=lambda w: SETTINGS[w.branch],
        drawn=drawn,
    shell:
        "hvlabel segment {wildcards.branch} --shard {wildcards.dataset}/{wildcards.shard}"
        " --settings {params.settings:q} 2> {log:q}"
