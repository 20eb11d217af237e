"""The providers' pages, followed as they are written: every source that they add, and every example that they have run.

The examples are taken out of the page and run in a shell as they stand. Only what the page tells the reader to fill in
is filled in: the secret and the URL, or the key. The calls that pass through go to the sandbox.
"""

import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from receiver import providers
from tests.scenarios.service import Service, Site, until
from tests.scenarios.stage import Stage

PAGES = Path(__file__).resolve().parents[2] / "docs" / "providers"
RELAY = PAGES.parent / "relay.md"

SOURCE_ADD = re.compile(r"^ +(receiver source add .*)\n", re.MULTILINE)
EXAMPLE = re.compile(r"^( +)SECRET=.*\n(?:\1.*\n)*?\1curl .*\n", re.MULTILINE)

SECTION = re.compile(r"^## Pass your own call through\n(.*?)^## ", re.MULTILINE | re.DOTALL)
UPSTREAM = re.compile(r"^ +(receiver source set (\S+) --upstream) https://\S+\n", re.MULTILINE)
KEY = re.compile(r"^ +(receiver key create .*)\n", re.MULTILINE)
CREDENTIAL = re.compile(r"^ +(printf .* \| receiver source credential .*)\n", re.MULTILINE)
CALL = re.compile(r"^( +)KEY=.*\n\1curl .*\\\n(?:\1.*\n)+", re.MULTILINE)
RECEIVER = "http://127.0.0.1:8000"
"""Where it listens, on the pages."""

SANDBOX = {
    "TRUTHLOCKS_API_KEY": "tl_test_sandbox",
    "THANX_CLIENT_ID": "sandbox-client",
    "THANX_TOKEN": "sandbox-token",
    "CAPILLARY_USER": "sandbox",
    "CAPILLARY_PASSWORD": "sandbox",
    "VOUCHERIFY_TOKEN": "sandbox-token",
    "VOUCHERIFY_APP_ID": "sandbox-app",
    "VOUCHERIFY_APP_TOKEN": "sandbox-app-token",
    "SCRIP_API_KEY": "scrip_sandbox",
}
"""What the reader has in his environment: here, what the sandbox takes."""

READ_ONLY = {"truthlocks": "TRUTHLOCKS_API_KEY", "scrip": "SCRIP_API_KEY"}
"""Which of these is `READ_ONLY_KEY`."""

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
        said = add_source(site, command, provider, given, tmp_path)
        made = re.search(r"^Secret, shown this once: (\S+)$", said, re.MULTILINE)
        [path] = re.findall(r"^Webhook path: (\S+)$", said, re.MULTILINE)
        for example in examples:
            script = filled_in(example, SECRET=made[1] if made else given, URL=f"{service.url}{path}")
            assert '"status":"recorded"' in site.shell(script, tmp_path, no_proxy="127.0.0.1")


def add_source(site: Site, command: str, tenant: str, secret: str, folder: Path) -> str:
    """Run a command that adds a source; what it prints. If it reads the secret from a file, it is that one."""
    (folder / "secret.txt").write_text(f"{secret}\n")
    words = [str(folder / word) if word == "secret.txt" else word for word in shlex.split(command)]
    return site.tell(*words, "--tenant", tenant)


def new_key(site: Site, command: str, tenant: str) -> str:
    """The key that such a command makes."""
    return str(json.loads(site.tell(*shlex.split(command), "--tenant", tenant, "--json"))["key"])


def filled_in(example: str, **values: str) -> str:
    """An example with what the reader is to put there."""
    for name, value in values.items():
        example, times = re.subn(rf"^{name}=.*$", f"{name}={value}", example, flags=re.MULTILINE)
        assert times == 1, example
    return example


@pytest.mark.parametrize("provider", providers.names())
def test_the_relays_page_has_the_providers_operation(provider: str) -> None:
    """What passes, what makes it safe to repeat, and the record that is asked if there is no answer."""
    operation = providers.get(provider).operation
    [row] = re.findall(
        rf"^\| {providers.get(provider).title} \| `(.*)` \| (.*) \| (.*) \|$", RELAY.read_text(), re.MULTILINE
    )
    name, key, record = row

    assert name == operation.name
    assert f"`{operation.idempotency_header or operation.idempotency_member}`" in key or key == "none"
    assert (key == "none") == (operation.idempotency_header is operation.idempotency_member is None)
    assert (record == "none") == (operation.lookup is None)
    if operation.lookup is not None:
        path = {parameter: f"{{{parameter}}}" for parameter in re.findall(r"{(\w+)}", operation.path)}
        target = unquote(operation.lookup.target(path, {}))
        assert record == f"`GET {target.partition('?')[0]}`"


@needs_a_shell
@pytest.mark.parametrize("provider", providers.names())
def test_a_call_passes_through_as_the_page_has_it(
    provider: str, site: Site, service: Service, stage: Stage, tmp_path: Path
) -> None:
    """With the commands and the call of the page, by way of the source that it has added before."""
    tenant = f"{provider}-calls"
    page = page_of(provider)
    found = SECTION.search(page)
    assert found is not None
    section = found[1]
    [(command, name)] = UPSTREAM.findall(section)
    [add] = [added for added, _ in steps(page) if added.split()[3] == name]
    add_source(site, add, tenant, f"{provider:x<40}", tmp_path)
    site.tell(*shlex.split(command), stage.sandbox.url, "--tenant", tenant)
    [key] = [new_key(site, create, tenant) for create in KEY.findall(section)]
    variables = SANDBOX | {"no_proxy": "127.0.0.1", "READ_ONLY_KEY": SANDBOX.get(READ_ONLY.get(provider, ""), "")}
    credentials = CREDENTIAL.findall(section)
    for credential in credentials:
        site.shell(f"{credential} --tenant {tenant}", tmp_path, **variables)

    [call] = [textwrap.dedent(match[0]) for match in CALL.finditer(section)]
    assert call.count(RECEIVER) == 1
    said = site.shell(filled_in(call, KEY=key).replace(RECEIVER, service.url), tmp_path, **variables)

    operation = providers.get(provider).operation
    assert int(said.split()[1]) in operation.successes, said
    headers = dict(re.findall(r"^(x-rescind-\S+): (\S+)\r?$", said, re.MULTILINE))
    audit = new_key(site, "receiver key create auditor --scopes audit", tenant)
    event = service.get(f"/v1/events/{headers['x-rescind-event']}", audit).json()
    assert (event["via"], event["provider"], event["breaches"]) == ("relay", provider, [])
    assert bool(credentials) == (operation.lookup is not None)
    if event["effect"] == "revoking":  # what was begun is followed to its end, with the credential of the page
        path = f"/v1/events?item={event['item']['type']}:{event['item']['id']}&via=poll"
        until(lambda: [one["effect"] for one in service.get(path, audit).json()["items"]] == ["revoked"])
