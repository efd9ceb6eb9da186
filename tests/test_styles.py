"""A recipe looks the same in every figure, and unlike the others."""

from speech_pareto.reporting.figures import styles


def test_styles_are_fixed_distinct_and_the_same_in_every_order():
    names = ["my-gates", *styles.STYLES, "attention-reuse", "low-rank-distilled"]
    found = styles.styles(names)
    assert found == styles.styles(reversed(names))
    assert all(found[name] == style for name, style in styles.STYLES.items())
    assert len(set(found.values())) == len(names)
    fixed = [marker for _, marker in styles.STYLES.values()]
    assert len(set(fixed)) == len(fixed)
    assert len(styles.styles([f"recipe-{i}" for i in range(60)])) == 60
