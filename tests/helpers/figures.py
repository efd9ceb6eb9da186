"""What figures say."""


def words(figure) -> str:
    """Return all that is written on a figure."""
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    labels = [axes.get_xlabel() for axes in figure.axes]
    return "\n".join([text.get_text() for text in texts] + labels)
