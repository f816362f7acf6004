"""Text cleaning: decode entities, strip markup and page code, collapse whitespace, join lists."""

import html
import re

# A tag starts with a letter, '/' or '!', so that "size < 5 and > 3" is kept. The first alternative is a tag with quoted
# attributes, which may hold '>'.
TAG = re.compile(r"""<[A-Za-z][^<>"'=]*+(?:=\s*+(?:"[^"<]*+"|'[^'<]*+')[^<>"'=]*+)++>|<[A-Za-z/!][^<>]*>""")
# As in a browser, an element or comment without an end reaches to the end of the text.
UNSEEN = re.compile(r"<(script|style)\b[^<>]*+>.*?(?:</\1\b[^<>]*+>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE)
# Only whole entities are decoded again: "&copy" without a semicolon may be text.
ENTITY = re.compile(r"&(?:amp|quot|apos|lt|gt|nbsp|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
UNESCAPED = 3  # times that a text is unescaped at most
# Beginnings of the scripts that pages of shops contain; crawlers took them for titles and descriptions.
PAGE_CODE = re.compile(
    r"(?:var|let|const) [A-Za-z_$][\w$.]* ?=[^;]*;"
    r"|(?:async )?function ?[\w$]* ?\([^()]*\) ?\{"
    r"|[(!]function ?\([^()]*\) ?\{"
    r"|(?:window|document)(?:\.[\w$.]+|\[['\"][\w$]+['\"]\]) ?[=(|]"
    r"|if ?\((?:typeof |window\.|ue\b)"
    r"|P\.(?:when|now|register)\("
)
CODE = re.compile(r"[(){};=<>\[\]|]|\b(?:return|var|function)\b")
# A style sheet without its tags: rules `selector {property: value}`, also within `@media {...}`.
STYLE = re.compile(r"[.#@][A-Za-z][^{}<>]{0,300}\{(?:[^{}<>]{1,300}\{)? ?[a-z-]+ ?:")
RULES = re.compile(r"(?:(?:[^{}<>]{1,300}+\{){1,2}+[^{}]*+\}[ }]*+)+")
WHITESPACE = re.compile(r"\s+")
# Separators in the column `categories`; no commas, as names of categories contain them.
PATH_STEP, PATHS = " > ", " | "


def clean_text(value: object, separator: str = " ") -> str:
    """One line of plain text from a string or a list of strings; empty for anything else."""
    if isinstance(value, list):
        # Nested lists are skipped: they may be deeper than Python's recursion limit.
        return separator.join(filter(None, (clean_text(part) for part in value if isinstance(part, str))))
    if not isinstance(value, str):
        return ""
    whole = value.encode("utf-8", errors="ignore").decode("utf-8")  # JSON may escape half a character, such as \ud83d
    text = without_markup(whole) if "<" in whole or "&" in whole else whole
    return without_code(WHITESPACE.sub(" ", text).strip())


def without_code(line: str) -> str:
    """Drop a style sheet before a text, and a script, with all but plain words after its last statement."""
    if STYLE.match(line):
        return RULES.sub("", line, count=1).strip()
    if PAGE_CODE.match(line):
        rest = line[max(line.rfind(";"), line.rfind("}")) + 1 :].strip()
        return rest if len(rest.split(" ")) > 1 and not CODE.search(rest) else ""
    return line


def without_markup(text: str) -> str:
    """Decode entities, also those escaped twice, and replace tags, comments, scripts and styles by blanks."""
    text = unescape(text)
    for _ in range(UNESCAPED - 1):
        if not ENTITY.search(text):
            break
        text = ENTITY.sub(lambda match: unescape(match[0]), text)
    return TAG.sub(" ", UNSEEN.sub(" ", text)) if "<" in text else text


def unescape(text: str) -> str:
    """Decode HTML entities."""
    try:
        return html.unescape(text)
    except ValueError:  # a numeric reference with more digits than Python converts to a number
        return text


def join_paths(paths: object) -> str:
    """Join category paths into one line: the steps of a path by PATH_STEP, the paths by PATHS.

    Words equal to a separator are dropped from steps, so that the line can be split again.

    Args:
        paths: a list of lists of names; anything else gives an empty string.
    """
    joined = (PATH_STEP.join(steps_of(path)) for path in paths) if isinstance(paths, list) else ()
    return PATHS.join(filter(None, joined))


def steps_of(path: object) -> list[str]:
    """The cleaned, non-empty steps of a category path."""
    names = path if isinstance(path, list) else [path]
    separators = {PATH_STEP.strip(), PATHS.strip()}
    steps = (
        " ".join(word for word in clean_text(name).split(" ") if word not in separators)
        for name in names
        if isinstance(name, str)
    )
    return [step for step in steps if step]


def printable(text: str) -> str:
    """Escape unprintable characters, such as terminal control sequences."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
