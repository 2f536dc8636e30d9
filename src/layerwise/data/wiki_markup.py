"""Plain text out of the markup of MediaWiki, as Wikipedia's articles are written in it.

Format: https://www.mediawiki.org/wiki/Help:Formatting. What the page's reader sees as running text stays: sentences,
the labels of links, headings, list items. What is made by programs or stands beside the text goes: templates (but for a
few that only dress up a text), tables, references, formulas, files, categories.
"""

import html
import re
from collections.abc import Callable

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_NOT_TEXT = "ref|references|math|chem|gallery|timeline|imagemap|score|hiero|syntaxhighlight|source|graph|mapframe|style"
_EMPTY_ELEMENT = re.compile(rf"<(?:{_NOT_TEXT})\b[^<>]*/>", re.IGNORECASE)
_ELEMENT = re.compile(rf"<({_NOT_TEXT})\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_BREAK = re.compile(r"<\s*(?:br|hr|p|div|blockquote|li|tr)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>")
# A table begins and ends on lines of its own; elsewhere the same signs are of a template.
_MARKS = re.compile(r"(?m:^[ \t:*]*\{\|)|(?m:^[ \t]*\|\}(?!\}))|\{\{|\}\}|\[\[|\]\]")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+(?:[ \t]+([^\]\n]*))?\]", re.IGNORECASE)
_QUOTES = re.compile(r"''+")
_SWITCH = re.compile(r"__[A-Z]+__")
_HEADING = re.compile(r"(={1,6})\s*(.+?)\s*\1")
_LIST = re.compile(r"[*#:;]+\s*")
_RULE = re.compile(r"-{4,}")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_HOLLOW = re.compile(r"\(\s*[,;:]*\s*\)|\[\s*\]")
_LEFT_OPEN = re.compile(r"\(\s*[,;]\s*")
_BEFORE_STOP = re.compile(r" +([,.;:)])(?=\s|$)")
# [[de:Titel]] leads to another language's page; labels begin with such a code and a colon nowhere else.
_BESIDE = re.compile(
    r"\s*(?:file|image|category|media|[a-z]{2,3}(?:-[a-z]+)*)\s*:(?!\s)|\s*(?:file|image|category)\s*:", re.IGNORECASE
)
# Templates that show one of their arguments: name -> number of the first argument shown, and how many.
_DRESS = {"lang": (1, 1), "transl": (1, 1), "nowrap": (0, 1), "small": (0, 1), "convert": (0, 2), "cvt": (0, 2)}


def plain_text(markup: str) -> str:
    """The running text of an article: paragraphs, headings and list items a line each, a blank line between paragraphs.

    Headings with nothing left below them are left out.

    Args:
        markup: wiki markup, as a dump holds it.

    Example:
        >>> plain_text("'''Rome''' is a [[city|large city]].<ref>A map</ref>{{Infobox}}")
        'Rome is a large city.'
    """
    text = _COMMENT.sub("", markup)
    literal: list[str] = []
    text = re.sub(r"<nowiki>(.*?)</nowiki>", lambda found: _hide(found[1], literal), text, flags=re.DOTALL)
    text = re.sub(r"<nowiki\s*/>", "", text)
    text = _ELEMENT.sub("", _EMPTY_ELEMENT.sub("", text))
    text = _without_nested(text)
    text = _EXTERNAL.sub(lambda found: found[1] or "", text)
    text = _TAG.sub("", _BREAK.sub("\n", text))
    text = _SWITCH.sub("", _QUOTES.sub("", text))
    lines = _lines(html.unescape(text))
    return re.sub(r"\ue000(\d+)\ue001", lambda found: literal[int(found[1])], lines)


def _hide(text: str, literal: list[str]) -> str:
    """A mark in Unicode's private use area that stands for text which is no markup."""
    literal.append(html.unescape(text))
    return f"\ue000{len(literal) - 1}\ue001"


def _without_nested(text: str) -> str:
    """Templates, tables and links, which may stand in one another, replaced by what they show.

    As MediaWiki has it: a table that is not closed goes on to the end; other marks without a partner are nothing.
    """
    shown: dict[str, Callable[[str], str]] = {"{{": _template, "{|": lambda _: "", "[[": _link}
    closes = {"}}": "{{", "|}": "{|", "]]": "[["}
    open_marks: list[str] = []
    held: list[list[str]] = [[]]  # text inside each open mark; the first is outside all
    at = 0

    def close(mark: str, whole: bool) -> None:
        content = "".join(held.pop())
        open_marks.pop()
        held[-1].append(shown[mark](content) if whole else content)

    for found in _MARKS.finditer(text):
        held[-1].append(text[at : found.start()])
        at, mark = found.end(), found[0].strip(" \t:*")
        if mark in shown:
            open_marks.append(mark)
            held.append([])
        elif (opened := closes[mark]) in open_marks:
            while open_marks[-1] != opened:
                close(open_marks[-1], whole=False)
            close(opened, whole=True)
    held[-1].append(text[at:])
    while open_marks:
        close(open_marks[-1], whole=open_marks[-1] == "{|")
    return "".join(held[0])


def _template(content: str) -> str:
    name, *arguments = content.split("|")
    name = name.strip().lower()
    if name.startswith("lang-"):
        return arguments[0].strip() if arguments else ""
    if name not in _DRESS:
        return ""
    first, count = _DRESS[name]
    return " ".join(each.strip() for each in arguments[first : first + count])


def _link(content: str) -> str:
    target, *labels = content.split("|")
    if _BESIDE.match(target):
        return ""
    return labels[-1].strip() if labels and labels[-1].strip() else target.strip().removeprefix(":")


def _lines(text: str) -> str:
    """Lines without the signs that stand at their beginnings; paragraphs and headings with a blank line between."""
    kept: list[tuple[int, str]] = []  # level of a heading, 0 for text, and the line; "" parts paragraphs
    for line in text.split("\n"):
        heading = _HEADING.fullmatch(line.strip())
        level = len(heading[1]) if heading else 0
        line = heading[2] if heading else _LIST.sub("", line.strip(), count=1) if _LIST.match(line.strip()) else line
        line = _tidy(line)
        if level and line:
            while kept and kept[-1][0] >= level:
                kept.pop()  # nothing stood below it
            kept.append((level, line))
        elif line and not _RULE.fullmatch(line):
            kept.append((0, line))
        elif not line and kept and kept[-1] != (0, "") and not kept[-1][0]:
            kept.append((0, ""))
    while kept and (kept[-1][0] or not kept[-1][1]):
        kept.pop()
    made: list[str] = []
    for level, line in kept:
        made.append(f"\n{line}\n" if level else line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(made)).strip()


def _tidy(line: str) -> str:
    """A line without what removed parts leave: double blanks, empty brackets, blanks before stops."""
    line = _LEFT_OPEN.sub("(", _HOLLOW.sub("", _BLANKS.sub(" ", line)))
    return _BLANKS.sub(" ", _BEFORE_STOP.sub(r"\1", line)).strip()
