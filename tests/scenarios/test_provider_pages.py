"""The providers' pages, followed as they are written: every source that they add, and every example that they have run.

The examples are taken out of the page and run in a shell as they stand. Only the two lines that the page tells the
reader to fill in, the secret and the URL, are filled in.
"""

import re
import shlex
import shutil
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from receiver import providers
from tests.scenarios.service import Service, Site

PAGES = Path(__file__).resolve().parents[2] / "docs" / "providers"

SOURCE_ADD = re.compile(r"^ +(receiver source add .*)\n", re.MULTILINE)
EXAMPLE = re.compile(r"^( +)SECRET=.*\n(?:\1.*\n)*?\1curl .*\n", re.MULTILINE)

needs_a_shell = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "openssl", "curl"))), reason="the examples need bash, openssl and curl"
)


def page_of(provider: str) -> str:
    """What is written on a provider's page."""
    return (PAGES / f"{provider}.md").read_text()


def steps(page: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page that add a source, each with the examples that deliver to it."""
    commands = list(SOURCE_ADD.finditer(page))
    ends = [*(command.start() for command in commands[1:]), len(page)]
    for command, end in zip(commands, ends, strict=True):
        examples = EXAMPLE.finditer(page, command.end(), end)
        yield command[1], [textwrap.dedent(example[0]) for example in examples]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An installation, in which each page has a tenant of its own."""
    return Site(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def service(site: Site) -> Generator[Service]:
    """Its service."""
    with site.serving() as service:
        yield service


def test_every_provider_has_a_page() -> None:
    """On each there is an example, none of which is overlooked here; and there is no page of anything else."""
    assert {page.stem for page in PAGES.glob("*.md")} == set(providers.names())
    for provider in providers.names():
        page = page_of(provider)
        assert sum(len(examples) for _, examples in steps(page)) == page.count("openssl dgst") > 0, provider


@needs_a_shell
@pytest.mark.parametrize("provider", providers.names())
def test_a_page_works_as_it_is_written(provider: str, site: Site, service: Service, tmp_path: Path) -> None:
    """Each source is added by the command for it, and what its examples deliver is answered `recorded`."""
    for number, (command, examples) in enumerate(steps(page_of(provider))):
        given = f"{number}{provider:x<40}"
        (tmp_path / "secret.txt").write_text(f"{given}\n")
        words = [str(tmp_path / word) if word == "secret.txt" else word for word in shlex.split(command)]
        said = site.tell(*words, "--tenant", provider)
        made = re.search(r"^Secret, shown this once: (\S+)$", said, re.MULTILINE)
        [path] = re.findall(r"^Webhook path: (\S+)$", said, re.MULTILINE)
        for example in examples:
            script = filled_in(example, SECRET=made[1] if made else given, URL=f"{service.url}{path}")
            assert '"status":"recorded"' in site.shell(script, tmp_path, no_proxy="127.0.0.1")


def filled_in(example: str, **values: str) -> str:
    """An example with what the reader is to put there."""
    for name, value in values.items():
        example, times = re.subn(rf"^{name}=.*$", f"{name}={value}", example, flags=re.MULTILINE)
        assert times == 1, example
    return example
