"""Recordings decoded to 16 kHz, transcribed to phones, split into train, valid and test."""


rule prepare_corpus:
    """Decode, label and split a corpus."""
    input:
        recordings_of_corpus,
    output:
        directory(paths.CORPUS),
    log:
        "logs/prepare_corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/prepare_corpus/{corpus}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 4
    params:
        **job_params(
            settings=lambda wildcards: preparation(wildcards.corpus),
            code=code("prepare_corpus.py", source_file),
            software=pins("data"),
        ),
    script:
        "../scripts/prepare_corpus.py"


rule corpora:
    """Target: all corpora of the study, ready for machines without internet."""
    input:
        corpora(study["corpora"]),
    localrule: True
