# The gallery to look at, and the run's verdict. `snakemake --report` takes what needs no other file: overview and table.
rule report:
    input:
        indexes("labels"),
    output:
        REPORT,
        report(
            str(LAYOUT.overview),
            category="Labels",
            labels={"what": "overview"},
            caption="../report/labels.rst",
        ),
        report(
            str(LAYOUT.quality),
            category="Labels",
            labels={"what": "quality of every label"},
            caption="../report/quality.rst",
        ),
    log:
        str(LAYOUT.log("report")),
    conda:
        "../envs/hvlabel.yaml"
    params:
        problems=SCAN.problems,
    shell:
        "hvlabel report 2> {log:q}"


# Fails above run.max_failed_share, when everything else is done.
rule check:
    input:
        indexes("labels"),
        REPORT,
    output:
        touch(str(LAYOUT.checked)),
    log:
        str(LAYOUT.log("check")),
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "hvlabel summary --check > {log:q} 2>&1"
