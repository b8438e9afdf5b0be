from __future__ import annotations

from pathlib import Path

import pytest

from appcat.errors import InvalidInput
from appcat.guest.surroundings import Surroundings, authority_statements
from appcat.model.proxy import Proxies
from appcat.services import config
from appcat.services.context import Context
from appcat.services.surroundings import surroundings_of
from tests.unit.support.certificates import authority
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm

VM = sample_vm()
VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "APPCAT_PROXY", "APPCAT_NO_PROXY", "APPCAT_CA_CERTIFICATES")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority()[0])
    return path


def test_nothing_is_told_unless_it_is_configured(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert surroundings_of(ctx, VM) == Surroundings()
    config.set_(ctx, "proxy", "none")
    assert surroundings_of(ctx, VM) == Surroundings()


def test_a_url_is_for_both(ctx: Context) -> None:
    config.set_(ctx, "proxy", "http://proxy:3128")
    config.set_(ctx, "no-proxy", ".lan")
    assert surroundings_of(ctx, VM).proxies == Proxies("http://proxy:3128", "http://proxy:3128", (".lan",))


def test_what_the_environment_says_at_each_start(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    config.set_(ctx, "proxy", "host")
    config.set_(ctx, "no-proxy", ".lan,b")
    assert not surroundings_of(ctx, VM).proxies
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "b,c")
    assert surroundings_of(ctx, VM).proxies == Proxies("", "http://proxy:3128", (".lan", "b", "c"))


def test_the_certificates_are_those_in_the_file_now(ctx: Context, certificates: Path) -> None:
    config.set_(ctx, "ca-certificates", str(certificates))
    assert surroundings_of(ctx, VM).authorities == certificates.read_bytes()
    certificates.write_bytes(authority()[0] + certificates.read_bytes())
    assert surroundings_of(ctx, VM).authorities == certificates.read_bytes()
    certificates.unlink()
    with pytest.raises(InvalidInput, match=r"^config\.json: .* cannot be read"):
        surroundings_of(ctx, VM)


def test_a_guest_that_had_certificates_is_rid_of_them_once(ctx: Context, certificates: Path) -> None:
    vm = add_vm(ctx, sample_vm())
    config.set_(ctx, "ca-certificates", str(certificates))
    told = ctx.layout.vm(vm.name).identity
    told.write_text("\n".join(authority_statements(surroundings_of(ctx, vm))))
    config.unset(ctx, "ca-certificates")
    gone = surroundings_of(ctx, vm)
    assert gone.had_authorities
    told.write_text("\n".join(authority_statements(gone)))
    assert surroundings_of(ctx, vm) == Surroundings()
