# Cubes to the masks of one branch.
rule segment:
    input:
        index_of("cubes"),
        lambda w: str(WEIGHTS[w.branch]) if WEIGHTS[w.branch] else [],
    output:
        index_of("{branch}"),
    params:
        settings=lambda w: BRANCH_SETTINGS[w.branch].canonical(),
    threads: CONFIG.run.threads
    resources:
        gpu=lambda w: int(
            BRANCH_SETTINGS[w.branch].network() is not None
            and CONFIG.run.device != "cpu"
        ),
    log:
        f"{RESULTS}/logs/{{branch}}/{{dataset}}/{{shard}}.log",
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "{HVLABEL} segment {wildcards.branch} --shard {wildcards.dataset}/{wildcards.shard}"
        " --results {RESULTS} --settings {params.settings:q} --run {RUN:q} 2> {log}"
