"""SUPERB's tasks, trained and scored by s3prl: a head on a learned mix of the frozen layers.

https://arxiv.org/abs/2105.01051. Hyper-parameters are those of s3prl's own recipes, s3prl.problem,
but for the learning rate: SUPERB searches it for each model and task, and so does rule `superb`.
"""

METRICS = {
    "per": "lower",
    "wer": "lower",
    "cer": "lower",
    "accuracy": "higher",
    "slot_type_f1": "higher",
    "slot_value_cer": "lower",
    "eer": "lower",
    "der": "lower",
}
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # SUPERB's search, its section 3.2
# recipe: class of s3prl.problem; metrics: the first one is the score; data: what s3prl must be told
# to read the task's own corpus; own: what recordings of a prepared corpus need, if it takes them;
# updates, batch: how long it trains, and recordings in an update (for estimates).
PROBLEMS = {
    "PR": {
        "recipe": "SuperbPR",
        "metrics": ["per"],
        "data": ["dataset_root"],
        "own": "phones",
        "updates": 100_000,
        "batch": 32,
    },
    "ASR": {
        "recipe": "SuperbASR",
        "metrics": ["wer", "cer"],
        "data": ["dataset_root"],
        "own": "characters",
        "updates": 200_000,
        "batch": 16,  # s3prl halves its 32 for recordings beyond 2000 samples, which is all of them
    },
    "KS": {
        "recipe": "SuperbKS",
        "metrics": ["accuracy"],
        "data": ["gsc1", "gsc1_test"],
        "own": "label",
        "updates": 200_000,
        "batch": 32,
    },
    "SID": {
        "recipe": "SuperbSID",
        "metrics": ["accuracy"],
        "data": ["dataset_root"],
        "own": "label",
        "updates": 200_000,
        "batch": 32,
    },
    "ER": {
        "recipe": "SuperbER",
        "metrics": ["accuracy"],
        "data": ["iemocap", "test_fold"],
        "own": "label",
        "updates": 30_000,
        "batch": 32,
    },
    "IC": {
        "recipe": "SuperbIC",
        "metrics": ["accuracy"],
        "data": ["dataset_root"],
        "own": None,  # three labels for a recording
        "updates": 200_000,
        "batch": 32,
    },
    "SF": {
        "recipe": "SuperbSF",
        "metrics": ["slot_type_f1", "slot_value_cer"],
        "data": ["dataset_root"],
        "own": None,
        "updates": 200_000,
        "batch": 32,
    },
    "SD": {
        "recipe": "SuperbSD",
        "metrics": ["der"],
        "data": ["data_dir"],
        "own": None,
        "updates": 30_000,
        "batch": 32,
    },
    "ASV": {
        "recipe": "SuperbASV",
        "metrics": ["eer"],
        "data": ["dataset_root"],
        "own": None,
        "updates": 200_000,
        "batch": 50,
    },
}
