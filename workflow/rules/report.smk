# The page to look at.
rule report:
    input:
        indexes("labels"),
    output:
        report(REPORT, category="Labels", caption="../report/labels.rst"),
    params:
        problems=[f"--problem={p}" for p in SCAN.problems],
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/hvlabel.yaml"
    shell:
        "{HVLABEL} report --results {RESULTS} {params.problems:q} 2> {log}"
