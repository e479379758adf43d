# The page to look at.
rule report:
    input:
        indexes("labels"),
    output:
        report(REPORT, category="Labels", caption="../report/labels.rst"),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/hvlabel.yaml"
    params:
        problems=[f"--problem={p}" for p in SCAN.problems],
    shell:
        "hvlabel report {params.problems:q} 2> {log}"
