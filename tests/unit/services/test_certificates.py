from __future__ import annotations

import dataclasses

from appcat.services.certificates import credentials, statements_for
from appcat.services.context import Context
from tests.unit.support.samples import sample_image, sample_vm


def test_credentials_stay_and_are_private(ctx: Context) -> None:
    first, second = credentials(ctx), credentials(ctx)
    assert first == second
    assert {path.name for path in first.directory.iterdir()} == {".lock", "ca.pem", "cert.pem", "key.pem"}
    assert (first.directory / "key.pem").stat().st_mode & 0o077 == 0
    assert (ctx.layout.tls / "ca-key.pem").stat().st_mode & 0o077 == 0


def test_credentials_of_a_lost_authority_are_made_anew(ctx: Context) -> None:
    before = credentials(ctx)
    (ctx.layout.tls / "ca-key.pem").unlink()
    after = credentials(ctx)
    assert after.authority != before.authority
    assert after.own.certificate != before.own.certificate
    assert credentials(ctx) == after


def test_only_who_wants_a_certificate_gets_one(ctx: Context) -> None:
    image = sample_image()
    assert statements_for(ctx, sample_vm(), image) == []
    assert not ctx.layout.tls.exists()
    wanting = dataclasses.replace(image, certificate="/etc/appcat/tls")
    one, two = (statements_for(ctx, sample_vm(), wanting) for _ in range(2))
    assert one[0] == two[0]
    assert one[1] != two[1]
