"""The rules of the house: what may import what, how long a file is, and what is said nowhere.

They are read from the source itself, so that whoever breaks one is told by name and line.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from receiver import providers

ROOT = Path(__file__).resolve().parents[1]
TEXT = {".cfg", ".html", ".js", ".json", ".lua", ".mako", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}

STAGES = {"intake", "relay", "assurance", "audit", "exports", "erasure"}
"""Each reads what the ones before it recorded; none calls another."""

BELOW = {
    "amounts",
    "events",
    "documents",
    "strictjson",
    "encoding",
    "providers",
    "records",
    "settings",
    "turns",
    "upstream",
}
"""What the stages share."""

PURE = {
    "canonical",
    "checkpoint",
    "errors",
    "evidence",
    "follower",
    "fork",
    "issuer",
    "lookup",
    "merkle",
    "note",
    "policy",
    "proof",
    "tiles",
}
"""The modules of `translog` that do no I/O."""

READING = {"auditing", "following", "keeping"}
"""The files of `translog/cli` for the commands that read over HTTP, and so need the extra `reader`."""

INPUT_AND_OUTPUT = {
    "asyncio",
    "fcntl",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
FRAMEWORKS = {"litestar", "uvicorn", "sqlalchemy", "alembic", "psycopg", "sqlite3", "httpx2", "httpx", "starlette"}

LONGEST, SHORTEST = 500, 60

MAY_BE_LONG = {"receiver/exports/verify.py": "goes along in every bundle, alone, and must do without any other"}

MAY_BE_SHORT = {
    "receiver/answer.py": "one class that three stages need",
    "receiver/amounts.py": "what may never be computed in two ways",
    "receiver/access.py": "a guard and what it is made of",
    "receiver/assurance/holding.py": "who follows a log, apart from following it",
    "receiver/cli/serving.py": "the command; the server is a module",
    "receiver/encoding.py": "what is encoded for every delivery",
    "receiver/entry.py": "may import nothing that can be missing",
    "receiver/intake/hotpath.py": "one class in front of the framework",
    "receiver/intake/routes.py": "one route",
    "receiver/metrics.py": "a list of metrics",
    "receiver/records/journal.py": "one context manager that every change of settings uses",
    "receiver/records/keyed.py": "the keyed hashes, side by side",
    "receiver/sandbox/log.py": "one route",
    "receiver/sandbox/misbehaving.py": "what is made to go wrong, in one place",
    "receiver/sandbox/signing.py": "one signature that several issuers make",
    "translog/errors.py": "the tree of exceptions",
    "translog/lookup.py": "pure, unlike the log that uses it",
}
"""Short files, each with why it is a file."""


class Import(NamedTuple):
    """One module that a file imports, and the line."""

    file: str
    line: int
    module: str


def sources(*folders: str) -> list[Path]:
    """The Python files under these folders."""
    found = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def name_of(file: Path) -> str:
    """A file as it is called in messages."""
    return str(file.relative_to(ROOT))


def imports(file: Path) -> Iterator[Import]:
    """Everything it imports, wherever in it; of `from a import b`, both `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield Import(name_of(file), node.lineno, one.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno} imports relatively"
            assert node.module is not None
            yield Import(name_of(file), node.lineno, node.module)
            for one in node.names:
                yield Import(name_of(file), node.lineno, f"{node.module}.{one.name}")


def part(module: str) -> str:
    """The part of `receiver` or `translog` that a module belongs to: `intake` for `receiver.intake.batch`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] in {"receiver", "translog"} else ""


def package(module: str) -> str:
    """Its first name."""
    return module.split(".", maxsplit=1)[0]


def text_files() -> list[Path]:
    """Every file of the project that is text, and nothing that is only made from it."""
    skipped = {"__pycache__", "build", "dist", "rescind-data", "node_modules"}
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") or top.name in {".ci", ".gitignore"}]
    files = [file for top in tops for file in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [
        file
        for file in files
        if file.is_file() and file.suffix in TEXT and not skipped & set(file.relative_to(ROOT).parts)
    ]


# ---- imports ------------------------------------------------------------------------------------------------------


def test_the_log_knows_nothing_of_the_receiver() -> None:
    """Auditors can install `translog` alone."""
    wrong = [one for file in sources("translog") for one in imports(file) if package(one.module) == "receiver"]

    assert wrong == []


def is_pure(module: str) -> bool:
    """Whether a pure module may import it."""
    top = package(module)
    if top == "translog":
        return part(module) in {"", *PURE}
    return top == "cryptography" or (top in sys.stdlib_module_names and top not in INPUT_AND_OUTPUT)


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_core_of_the_log_does_no_input_or_output(module: str) -> None:
    """It imports its like, `cryptography`, and what of the standard library reaches nothing outside."""
    file = ROOT / "translog" / f"{module}.py"
    wrong = [one for one in imports(file) if not is_pure(one.module)]

    assert wrong == []
    calls = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.Call)]
    named = [node.func.id for node in calls if isinstance(node.func, ast.Name)]
    assert not {"print", "input"} & set(named)
    assert "open" not in named or module == "note"  # which has an `open` of its own


def test_the_base_install_is_enough_for_auditors() -> None:
    """`translog verify` imports nothing beyond the standard library and `cryptography`, even indirectly."""
    command = {"__init__", "__main__", "cli", *PURE}
    modules = {file.stem for file in (ROOT / "translog").glob("*.py")}
    files = [file for file in sources("translog/cli") if file.stem not in READING]
    files += [ROOT / "translog" / f"{name}.py" for name in command - {"cli"}]
    wrong = [
        one
        for file in files
        for one in imports(file)
        if package(one.module) not in {"translog", "cryptography", *sys.stdlib_module_names}
        or part(one.module) in modules - command
    ]

    assert wrong == []


def test_providers_know_neither_the_web_nor_the_database() -> None:
    """A provider's module reads JSON and judges events, and that is all."""
    allowed = {"amounts", "documents", "events", "strictjson", "providers"}
    wrong = [
        one
        for file in sources("receiver/providers")
        for one in imports(file)
        if package(one.module) in FRAMEWORKS
        or (package(one.module) == "receiver" and part(one.module) not in {"", *allowed})
    ]

    assert wrong == []


RECORDING = ("receiver.intake.recorder", "receiver.intake.submission", "receiver.intake.batch")
"""What the recorder is, and what goes into it and comes out."""


def test_the_stages_do_not_call_one_another() -> None:
    """One exception: `relay` records through `intake.recorder`, and as that does."""
    wrong = [
        one
        for stage in STAGES
        if (ROOT / "receiver" / stage).is_dir()
        for file in sources(f"receiver/{stage}")
        for one in imports(file)
        if part(one.module) in STAGES - {stage} and not (stage == "relay" and one.module.startswith(RECORDING))
    ]

    assert wrong == []


def test_what_the_stages_share_knows_none_of_them() -> None:
    """Everything flows one way."""
    files = [file for name in BELOW for file in (ROOT / "receiver" / name).rglob("*.py")]
    files += [ROOT / "receiver" / f"{name}.py" for name in BELOW if (ROOT / "receiver" / f"{name}.py").exists()]
    wrong = [one for file in files for one in imports(file) if part(one.module) in STAGES | {"app", "cli", "server"}]

    assert len(files) > len(BELOW)
    assert wrong == []


def test_commands_and_demo_are_used_by_nobody() -> None:
    """They are the outermost: the service runs without them."""
    wrong = [
        one
        for file in sources("receiver")
        for one in imports(file)
        if part(one.module) in {"cli", "demo", "sandbox"}
        and file.relative_to(ROOT).parts[1] not in {"cli", "demo", "sandbox", "entry.py"}
    ]

    assert wrong == []


# ---- files --------------------------------------------------------------------------------------------------------


def lines(file: Path) -> int:
    """How many lines it has."""
    return len(file.read_text().splitlines())


def test_a_file_can_be_read_in_one_sitting() -> None:
    """None is longer than five hundred lines without a reason, tests and benchmarks included."""
    long = {name_of(file) for file in sources("receiver", "translog", "tests") if lines(file) > LONGEST}

    assert long == MAY_BE_LONG.keys()


def test_a_file_is_worth_being_one() -> None:
    """None of the two packages is shorter than sixty lines without a reason; those with one are as short as it says."""
    short = {
        name_of(file)
        for file in sources("receiver", "translog")
        if lines(file) < SHORTEST
        and file.name not in {"__init__.py", "__main__.py"}
        and "migrations" not in file.relative_to(ROOT).parts
    }

    assert short - MAY_BE_SHORT.keys() == set()
    assert {name for name in MAY_BE_SHORT if not (ROOT / name).exists()} == set()


def test_every_module_says_what_it_is() -> None:
    """With a docstring of at least a sentence."""
    without = [
        name_of(file)
        for file in sources("receiver", "translog")
        if len((ast.get_docstring(ast.parse(file.read_bytes())) or "").split()) < 3
        and "versions" not in file.relative_to(ROOT).parts
    ]

    assert without == []


# ---- what is said nowhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", providers.names())
def test_a_provider_is_named_in_its_own_module_only(provider: str) -> None:
    """And in the sandbox, which plays its part. Whatever else names it would have to change with it."""
    at_home = {f"receiver/providers/{provider}.py", f"receiver/sandbox/{provider}.py"}
    word = re.compile(rf"(?<![a-z]){provider}(?![a-z])")
    named = {name_of(file) for file in sources("receiver", "translog") if word.search(file.read_text().lower())}

    assert named - at_home == set()
    assert f"receiver/providers/{provider}.py" in named


REGISTRIES = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("crates", "io"),
    ("rubygems", "org"),
    ("proxy", "golang", "org"),
    ("maven", "org"),
    ("anaconda", "org"),
    ("docker", "io"),
]


@pytest.mark.parametrize("registry", [".".join(one) for one in REGISTRIES])
def test_no_package_registry_is_named(registry: str) -> None:
    """Where packages come from is for whoever installs them to say."""
    assert [name_of(file) for file in text_files() if registry in file.read_text(errors="replace").lower()] == []


def test_nothing_claims_what_no_software_can() -> None:
    """Neither the README nor the documents call anything by the word that only an assessor may use."""
    word = "complian" + "t"
    documents = [file for file in text_files() if file.suffix == ".md"]
    said = [name_of(file) for file in documents if word in file.read_text().lower()]

    assert name_of(ROOT / "README.md") in map(name_of, documents)
    assert said == []
