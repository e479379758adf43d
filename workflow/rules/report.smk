# The page to look at, and the run's verdict.
rule report:
    input:
        indexes("labels"),
    output:
        report(
            directory(REPORT),
            htmlindex="index.html",
            category="Labels",
            caption="../report/labels.rst",
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
