"""What commands refuse: a sentence on standard error that says what to do, exit status 1 or 2, and no traceback."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from receiver.server import listen
from tests.receiver.commands import Commands

ADD = ("source", "add", "s", "--provider", "truthlocks")
STANDARD = (*ADD, "--scheme", "standard-webhooks")
HMAC = (*ADD, "--scheme", "hmac", "--header", "x")


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder to run commands in."""
    return Commands(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (ADD, 2, "nor how the signature is spelled: say which --scheme it is"),
        (("source", "add", "s", "--provider", "nobody", "--scheme", "token"), 2, "'nobody' is not one of 'capillary',"),
        ((*ADD, "--scheme", "rot13"), 2, "'rot13' is not one of 'standard-webhooks', 'timestamped-hmac'"),
        ((*ADD, "--scheme", "token"), 1, "scheme token needs the option header"),
        ((*ADD, "--scheme", "token", "--header", "x y"), 1, "header must be the name of a header"),
        ((*STANDARD, "--header", "x"), 1, "scheme standard-webhooks has no option 'header'"),
        ((*STANDARD, "--strip-whitespace"), 1, "scheme standard-webhooks has no option 'strip_whitespace'"),
        ((*HMAC, "--encoding", "rot13"), 2, "'rot13' is not one of 'hex', 'base64'"),
        ((*HMAC, "--key-form", "x"), 2, "'x' is not one of"),
        ((*STANDARD, "--replay-window", "0"), 2, "0 is not in the range 1<=x<=86400"),
        ((*STANDARD, "--replay-window", "86401"), 2, "86401 is not in the range"),
        ((*STANDARD, "--account", ""), 2, "'' must be 1 to 256 printable characters"),
        ((*STANDARD, "--tenant", "A B"), 1, "the tenant name 'A B' must be lower-case letters, digits and hyphens"),
        ((*STANDARD, "--tenant", "x" * 64), 1, "must be lower-case letters, digits and hyphens, at most 63"),
        ((*STANDARD, "--tenant", "-x"), 1, "the tenant name '-x'"),
        (("source", "add", "", *STANDARD[3:]), 2, "'' must be 1 to 256 printable characters"),
        (("source", "add", " s", *STANDARD[3:]), 2, "without spaces around them"),
        (("source", "add", "a\nb", *STANDARD[3:]), 2, "printable characters"),
        (("source", "add", "\udcff", *STANDARD[3:]), 2, "printable characters"),
        (("source", "add"), 2, "Missing argument 'NAME'"),
        (("source", "add", "x"), 2, "Missing option '--provider'"),
        (("key", "create", "k"), 2, "Missing option '--scopes'"),
        (("key", "create", "k", "--scopes", ""), 1, "'' is not a scope; there are audit, export, operate, admin"),
        (("key", "create", "k", "--scopes", "audit,root"), 1, "'root' is not a scope"),
        (("key", "create", "k", "--scopes", "audit,"), 1, "'' is not a scope"),
        (("key", "create", "k", "--scopes", "audit", "--owner", ""), 2, "'' must be 1 to 256 printable"),
        (("key", "create", "\udcff", "--scopes", "audit"), 2, "printable characters"),
        (("key", "create", "k", "--scopes", "audit", "--expires", "never"), 2, "'never' is not an RFC 3339 time"),
        (("key", "create", "k", "--scopes", "audit", "--expires", "2027-01-01"), 2, "such as 2026-11-20T09:00:00Z"),
        (("key", "revoke", "k"), 1, "tenant default has no key named 'k' that is in use"),
        (("key", "list", "--tenant", "nobody"), 1, "there is no tenant 'nobody'; known: default"),
        (("key", "revoke", "k", "--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
        (("log-key", "--tenant", "nobody"), 1, "there is no tenant 'nobody'; known: default"),
        (("init", "--origin", "https://example.com"), 1, "must be host/path, without a scheme or a trailing slash"),
        (("init", "--origin", "example.com/"), 1, "the origin 'example.com/' must be host/path"),
        (("init", "--origin", ""), 1, "the origin '' must be host/path"),
        (("serve", "--port", "65536"), 2, "65536 is not in the range 0<=x<=65535"),
        (("serve", "--port", "http"), 2, "'http' is not a valid integer"),
        (("serve", "--host", "nowhere.invalid"), 1, "cannot listen on nowhere.invalid, port 8000"),
        (("melt",), 2, "No such command 'melt'"),
        (("key", "melt"), 2, "No such command 'melt'"),
        (("init", "--melt"), 2, "No such option"),
    ],
)
def test_what_cannot_be(commands: Commands, arguments: tuple[str, ...], status: int, says: str) -> None:
    """Each says which argument it is."""
    assert says in " ".join(commands.refused(*arguments, status=status).split())


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\r\n", "the secret is empty"),
        (b"x" * 4097, "a secret is at most 4096 bytes"),
        (b"x" * 1_000_000, "a secret is at most 4096 bytes"),
        (b"caf\xe9", "the secret is not UTF-8 text"),
        (b"whpk_AAAA", "a public key: everyone could sign"),
    ],
)
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_secrets_that_cannot_be(commands: Commands, secret: bytes, says: str, way: str) -> None:
    """Nothing of them is shown, and no source is made."""
    file = commands.folder / "secret"
    file.write_bytes(secret)
    given = ("--secret-file", str(file)) if way == "file" else ("--secret-stdin",)

    said = commands.refused(*HMAC, *given, stdin=secret if way == "stdin" else None)

    assert says in said
    assert "xxxx" not in said
    assert not commands.data.exists()


def test_a_secret_comes_one_way(commands: Commands) -> None:
    """File or standard input, not both; a file that is not there is named."""
    both = commands.refused(*HMAC, "--secret-file", "x", "--secret-stdin", status=2, stdin=b"x")
    missing = commands.refused(*HMAC, "--secret-file", str(commands.folder / "nope"))

    assert "give --secret-file or --secret-stdin, not both" in both
    assert f"{commands.folder / 'nope'}: No such file or directory" in missing


def test_what_is_taken_already(commands: Commands) -> None:
    """A source's or key's name within a tenant, and a secret anywhere, in each of its spellings."""
    secret = base64.b64encode(bytes(range(32)))
    commands.ok(*STANDARD, "--secret-stdin", stdin=secret)
    commands.ok("key", "create", "k", "--scopes", "audit")
    other = ("source", "add", "other", "--provider", "truthlocks", "--scheme", "standard-webhooks", "--tenant", "other")

    assert "tenant default already has a source named 's'" in commands.refused(*STANDARD)
    assert "tenant default already has a key named 'k'" in commands.refused("key", "create", "k", "--scopes", "audit")
    for spelling in (secret, b"whsec_" + secret):
        said = commands.refused(*other, "--secret-stdin", stdin=spelling)
        assert "this secret already belongs to a source; a secret is one source's only" in said
        assert secret.decode() not in said


def test_a_key_is_revoked_once(commands: Commands) -> None:
    """The second time there is none of that name in use."""
    commands.ok("key", "create", "k", "--scopes", "audit")
    commands.ok("key", "revoke", "k")

    assert "has no key named 'k' that is in use" in commands.refused("key", "revoke", "k")


def test_another_origin(commands: Commands) -> None:
    """It never changes."""
    commands.ok("init", "--origin", "example.com/one")

    said = commands.refused("init", "--origin", "example.com/two")

    assert "the origin of these logs is example.com/one and never changes; example.com/two was asked for" in said


# ---- data folder, data key, database ------------------------------------------------------------------------------


def test_a_data_folder_that_is_none(commands: Commands) -> None:
    """A file stands in its place."""
    commands.data.write_text("")

    assert f"the data folder {commands.data} cannot be used" in commands.refused("init")


def test_a_data_folder_that_cannot_be_read(commands: Commands) -> None:
    """Also not by a user who may read everything: it is within a file."""
    commands.data.write_text("")
    inner = Commands(commands.data)

    said = inner.refused("key", "list")

    assert f"the data folder {inner.data} cannot be used" in said
    assert "Not a directory" in said


def test_without_the_data_key(commands: Commands) -> None:
    """A second key is never made for a database that has values under a first one."""
    commands.ok("init")
    (commands.data / "data.key").rename(commands.folder / "away")

    for command in (("init",), ("key", "list"), ("serve", "--port", "0")):
        said = commands.refused(*command)
        assert f"the data key {commands.data / 'data.key'} cannot be read" in said
        assert "put it back from a copy, or set RESCIND_DATA_KEY" in said
    (commands.folder / "away").rename(commands.data / "data.key")
    commands.ok("key", "list")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (base64.b64encode(bytes(32)).decode(), "does not open with this data key"),
        (base64.b64encode(bytes(31)).decode(), "the data key is 31 bytes; it must be 32"),
        ("", "the data key is 0 bytes; it must be 32"),
        ("not base64!", "the data key is not base64"),
    ],
)
def test_with_another_data_key(commands: Commands, text: str, says: str) -> None:
    """In the file or in the setting; the key itself is not shown."""
    commands.ok("init")

    in_setting = commands.refused("key", "list", data_key=text)
    (commands.data / "data.key").write_text(text)
    in_file = commands.refused("key", "list")

    for said in (in_setting, in_file):
        assert says in said
        assert text not in said or not text


def test_a_database_that_is_none(commands: Commands) -> None:
    """Another program's file is neither taken for ours nor changed."""
    commands.data.mkdir()
    (commands.data / "rescind.db").write_bytes(b"something else altogether" * 100)

    commands.refused("init")

    assert (commands.data / "rescind.db").read_bytes() == b"something else altogether" * 100


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "mysql://ann:hunter2@localhost/x",
            "the database must be sqlite:///FILE or postgresql://…, not mysql://ann:***",
        ),
        ("nonsense", "the database URL cannot be read"),
        ("sqlite://", "the database must be sqlite:///FILE"),
        ("sqlite:///:memory:", "the database must be sqlite:///FILE"),
        ("postgresql://ann:hunter2@127.0.0.1:1/x", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_used(commands: Commands, url: str, says: str) -> None:
    """It is named without its password."""
    said = commands.refused("init", database_url=url)

    assert says in said
    assert "hunter2" not in said


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue", "many"),
        ("queue", "0"),
        ("publish_interval", "-1"),
        ("max_body", "1"),
        ("refusals_per_minute", "1.5"),
        ("trusted_proxies", "proxy.example"),
        ("public_log", "perhaps"),
    ],
)
def test_a_setting_that_cannot_be(commands: Commands, name: str, value: str) -> None:
    """It is named, by the environment and by the file alike."""
    given: dict[str, Any] = {name: value}
    assert f"a setting cannot be used: {name}: " in commands.refused("init", **given)

    commands.data.mkdir()
    (commands.data / "rescind.toml").write_text(f'{name} = "{value}"\n')
    assert f"a setting cannot be used: {name}: " in commands.refused("init")


def test_a_settings_file_that_cannot_be_read(commands: Commands) -> None:
    """No TOML; an unknown name; one that is named and not there."""
    commands.data.mkdir()
    file = commands.data / "rescind.toml"
    file.write_text("queue = [")
    assert f"{file} is not TOML" in commands.refused("init")
    file.write_text("kew = 1\n")
    assert "a setting cannot be used: kew: Extra inputs are not permitted" in commands.refused("init")
    file.unlink()
    said = commands.refused("init", config=str(commands.folder / "nope.toml"))
    assert f"RESCIND_CONFIG names {commands.folder / 'nope.toml'}, and there is no such file" in said


def test_the_environment_is_over_the_file(commands: Commands) -> None:
    """And the command's own options over both."""
    commands.data.mkdir()
    (commands.data / "rescind.toml").write_text('origin = "example.com/file"\n')

    printed = commands.ok("init", origin="example.com/environment")

    assert "example.com/environment/log/default" in printed


# ---- guard, port, extra -------------------------------------------------------------------------------------------


def test_without_a_guard_there_is_a_warning(commands: Commands) -> None:
    """Or a refusal, where one is demanded; nothing is said where the guard knows the log."""
    commands.ok("init")
    assert commands.run("key", "list").stderr == ""
    shutil.rmtree(commands.folder / "guard")

    refused = commands.refused("key", "list", require_guard="true")
    warned = commands.run("key", "list")

    assert f"is not empty and the guard {commands.folder / 'guard'} knows nothing of it" in refused
    assert "unset RESCIND_REQUIRE_GUARD" in refused
    assert warned.exit_code == 0
    assert warned.stderr.startswith(
        f"warning: the guard {commands.folder / 'guard'} knows nothing of the log of tenant"
    )


def test_a_port_in_use(commands: Commands) -> None:
    """Host and port are named."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = commands.refused("serve", "--port", str(port))

    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in said


_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from receiver.entry import main
main()
"""


@pytest.mark.parametrize("name", ["click", "sqlalchemy", "pydantic_settings"])
def test_without_the_extra(name: str) -> None:
    """A sentence that names it, where the base install lacks what the service needs."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(name=name)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"receiver: the service needs the extra `server` ({name} is missing): pip install 'rescind[server]'\n"
    )


def test_a_fault_of_our_own_is_no_missing_extra() -> None:
    """A module of ours that is not there is not blamed on the installation."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(name="translog")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
