"""Labels of a figure can be read: none lies on another or leaves the figure."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from helpers import synthetic_results
from speech_pareto.reporting.figures import fronts
from speech_pareto.reporting.tables import results_table
from speech_pareto.study import quantities

pytestmark = pytest.mark.slow  # each draws all figures


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """Return the synthetic grid's summary over seeds."""
    files = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    return results_table.summarise(results_table.build(*map(results_table.read_results, files)))


def boxes(figure, axes):
    """Return the boxes in pixels of the labels that stand beside points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in axes.texts if text.get_zorder() == 8]


@pytest.mark.parametrize("task", ["phones", "characters"])
@pytest.mark.parametrize("cost", quantities.main_axes())
def test_labels_do_not_collide(summary, task, cost):
    figure = fronts.pareto(summary, task, cost)
    found = boxes(figure, figure.axes[0])
    assert len(found) == len(synthetic_results.RECIPES) + 2
    for i, box in enumerate(found):
        assert not any(box.overlaps(other) for other in found[:i])
        assert box.x0 > 0
        assert box.x1 < figure.bbox.width
