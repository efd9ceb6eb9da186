"""A hook of mkdocs: linked files outside docs/ become pages, and no page loads from elsewhere.

Links in docs/ are those that work in a checkout, such as `../config/README.md`. On the site a
Markdown file from outside docs/ is a page, another file a page with its text, and a folder a page
with a list of its files.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.M | re.S)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
FOREIGN = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=.?(?:https?:)?//")
LISTED = {".py", ".yaml", ".md"}  # files that the page of a folder names


def on_files(files, config):
    """Add a page for each file outside docs/ that a page links to, and for what these link to."""
    waiting = [(page.src_uri, page.content_string) for page in files.documentation_pages()]
    waiting += [(page, None) for page in ("CONTRIBUTING.md", "CHANGELOG.md")]
    while waiting:
        uri, text = waiting.pop()
        if text is None:
            text = _text(uri)
            files.append(File.generated(config, uri, content=text))
        for path, _ in LINK.findall(CODE.sub("", text)):  # (path, anchor)
            target = _uri(uri, path)
            known = any(target == wanted for wanted, _ in waiting)
            if target and not known and not files.get_file_from_path(target):
                waiting.append((target, None))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of a checkout into those of the site."""
    here = page.file.src_uri

    def moved(match):
        target = _uri(here, match[1])
        return _relative(here, target) + (match[2] or "") if target else match[0]

    parts = CODE.split(markdown)  # every second one is code
    return "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))


def on_post_page(output, page, config):
    """Refuse a page that loads a script, style or picture from elsewhere."""
    if found := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output


def _source(uri: str) -> Path:
    """Return the file or folder of the checkout that a page of the site shows."""
    inside = ROOT / "docs" / uri
    return inside if inside.exists() else ROOT / uri.removesuffix(".text.md")


def _uri(here: str, link: str) -> str | None:
    """Return the page for a link on the page `here`, None if mkdocs shall resolve it."""
    if re.match(r"\w+:|/", link):
        return None
    folder = _source(here)
    folder = folder if folder.is_dir() else folder.parent
    target = Path(posixpath.normpath(folder / link))
    if not target.exists() or not target.is_relative_to(ROOT):
        return None
    docs = ROOT / "docs"
    if target.is_relative_to(docs) and not target.is_relative_to(docs / "generate"):
        return target.relative_to(docs).as_posix()
    path = target.relative_to(ROOT).as_posix()
    return path if target.suffix == ".md" else f"{path}.text.md"


def _relative(here: str, target: str) -> str:
    """Return the link from one page to another."""
    return posixpath.relpath(target, posixpath.dirname(here) or ".")


def _text(uri: str) -> str:
    """Return the Markdown of a page for a file or folder outside docs/."""
    source = _source(uri)
    if source.suffix == ".md":
        return source.read_text(encoding="utf-8")
    name = source.relative_to(ROOT).as_posix()
    head = f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n# {source.name}\n\n`{name}`\n\n"
    if source.is_dir():
        inside = sorted(file.name for file in source.iterdir() if file.suffix in LISTED)
        return head + "".join(f"- [{x}]({x})\n" for x in inside if x != "__init__.py")
    kind = {".py": "python", ".yaml": "yaml"}.get(source.suffix, "text")
    return f"{head}~~~~~~ {{.{kind}}}\n{source.read_text(encoding='utf-8')}\n~~~~~~\n"
