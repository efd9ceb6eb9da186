"""Write the pages of docs/ that are made from the code: `make pages`."""

from pathlib import Path

from generate import settings, sizes

PAGES = {"settings.md": settings.page, "sizes.md": sizes.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).parents[1].joinpath(name).write_text(page(), encoding="utf-8", newline="\n")
