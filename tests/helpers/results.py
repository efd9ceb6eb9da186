"""Sections and settings that jobs of tests are called with."""

RUN = {  # of a student that fits any task
    "study": "s",
    "teacher": "tiny",
    "recipe": "r",
    "ratio": 0.5,
    "seed": 1,
    "role": "student",
    "pretrained": True,
    "scope": "any",
    "config": {},
}
SCORED = {key: value for key, value in RUN.items() if key != "scope"} | {"task": "characters"}
TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
PLAIN = {"steps": 6, "learning_rate": 1e-3, "batch_seconds": 4.0, "precision": "fp32"}
