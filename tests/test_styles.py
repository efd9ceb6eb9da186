"""A recipe looks the same in every figure, and unlike the others."""

from speech_pareto.reporting.figures import styles


def test_styles_are_fixed_distinct_and_the_same_in_every_order():
    names = ["my-gates", *styles.STYLES, "attention-reuse", "low-rank-distilled"]
    roles = dict.fromkeys(names, "student") | dict.fromkeys(styles.OF_CONTROLS, "control")
    roles["as-it-is"] = "teacher"
    found = styles.styles(roles)
    assert found == styles.styles(dict(reversed(roles.items())))
    known = styles.STYLES | styles.OF_CONTROLS | {"as-it-is": styles.OF_TEACHERS}
    assert {name: found[name] for name in known} == known
    assert len(set(found.values())) == len(roles)
    fixed = [marker for _, marker in known.values()]
    assert len(set(fixed)) == len(fixed)
    many = styles.styles({f"recipe-{i}": "student" for i in range(60)})
    assert len(many) == 60 and len(set(many.values())) > 40
