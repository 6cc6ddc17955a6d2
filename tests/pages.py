"""README.md and docs/*.md as their readers use them: blocks of code, and command lines."""

import re
import shlex
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

HOME = Path(__file__).parent.parent
PAGES = {
    path.relative_to(HOME).as_posix(): path.read_text()
    for path in (HOME / "README.md", *sorted(HOME.glob("docs/*.md")))
}
SHELL = (
    *("aws", "cat", "cp", "ctr", "curl", "dmsign-fast", "echo", "export", "for", "head", "keyctl"),
    *("make", "modprobe", "mount", "notation", "openssl", "pip", "pipx", "printf", "pytest"),
    *("python", "python3", "softhsm2-util", "ssh", "sudo", "umount", "veritysetup"),
)
NAMES = r" (ca:)?(POLICY|LAYER|STATE|IMAGE|STORE|PATH:TAG|FILE(\.p7s)?)\b"
"""What only a synopsis has, beside what is optional or repeated."""
INDENTED = re.compile(r"(?:^ {4}.*\n(?:[ \t]*\n(?= {4}))*)+", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code of a page; ``language`` is that of its fence, or empty."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A logical line of a shell, without prompt, comment and what is said of it in a column."""

    page: str
    line: int
    text: str

    @property
    def synopsis(self) -> bool:
        """Whether it is how a command is called, and not a call."""
        return bool(re.search(r" \[|[A-Z]\.\.\.|" + NAMES, self.text))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks_of(page: str) -> list[Block]:
    """The fenced and indented code of a page, in its order."""
    text = PAGES[page]
    found = [
        Block(page, text.count("\n", 0, one.start()) + 2, one[1], one[2])
        for one in FENCED.finditer(text)
    ]
    rest = FENCED.sub(lambda one: "\n" * one[0].count("\n"), text)
    found += [
        Block(page, rest.count("\n", 0, one.start()) + 1, "", textwrap.dedent(one[0]))
        for one in INDENTED.finditer(rest)
    ]
    return sorted(found, key=lambda one: one.line)


def commands_of(block: Block) -> list[Command]:
    """The command lines of a block, none if it is no shell; of YAML those of its scripts."""
    if block.language == "yaml":
        inner = [replace(block, language="sh", text=text) for text in scripts_of(block.text)]
        return [command for one in inner for command in commands_of(one)]
    if block.language not in ("", "sh", "console"):
        return []
    first, _, _ = block.text.lstrip().removeprefix("$ ").partition(" ")
    prompted = block.text.startswith("$ ")
    if block.language == "" and first.rstrip() not in (*SHELL, "#"):
        return []
    commands, begun, number = [], "", block.line
    for at, line in enumerate(block.text.splitlines(), block.line):
        if not begun:
            number = at
            if prompted and not line.startswith("$ "):
                continue
        begun += line.removeprefix("$ ") + "\n"
        if line.endswith("\\") or re.search(r"<<END\b(?!.*\nEND\n)", begun, re.DOTALL):
            continue
        if re.match("(for|if) ", begun) and not re.search(r"^(done|fi)$", line):
            continue
        text = begun.strip() if "<<" in begun or "\ndo" in begun else shortened(begun)
        if text and text.partition(" ")[0] in SHELL:
            commands.append(Command(block.page, number, text))
        begun = ""
    return commands


def scripts_of(text: str) -> list[str]:
    """The shell in a file of GitHub Actions, GitLab or Tekton."""
    found, waiting = [], [*yaml.safe_load_all(text)]
    while waiting:
        match waiting.pop(0):
            case dict() as one:
                for name, value in one.items():
                    if name in ("run", "script"):
                        found.append(value if isinstance(value, str) else "\n".join(value))
                    else:
                        waiting.append(value)
            case list() as several:
                waiting += several
    return found


def shortened(line: str) -> str:
    """A line without its comment and without what is said of it behind a gap."""
    lines = re.sub(r"(^|\s)#.*", "", line).rstrip().split("\\\n")
    if len(lines) == 1:
        lines = re.split(r"(?<=\S) {3,}(?=\S)", lines[0])[:1]
    return " ".join(part.strip() for part in lines)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [command for block in BLOCKS for command in commands_of(block)]


def words_of(text: str) -> list[list[str]]:
    """The words of each call of dmsign-fast in a line of shell."""
    words = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    words.commenters = ""
    calls: list[list[str]] = []
    open_call = False
    for word in words:
        if word == "dmsign-fast":
            calls.append([])
            open_call = True
        elif set(word) <= set("|&;<>"):
            open_call = False
        elif open_call:
            calls[-1].append(word)
    return calls


def words_of_synopsis(text: str) -> tuple[list[str], set[str]]:
    """The shortest call that a synopsis allows, and all options that it names."""
    short = text
    while short != (short := re.sub(r"\[[^][]*\](\.\.\.)?", "", short)):
        pass
    return short.replace("...", "").split()[1:], {*re.findall(r"--[a-z-]+", text)}


def with_values(text: str, values: dict[str, str]) -> str:
    """A command line with what stands for its reader's own: names, and digests cut short."""
    text = re.sub(r"(?<![\w:])[0-9a-f]{4,}(\.\.\.|…)", "ROOT_HASH", text)
    for name, value in values.items():
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w])", lambda _, v=value: v, text)
    return text
