"""Bills of materials in SPDX."""

from __future__ import annotations

import dataclasses
import re

from appcat.model.image import Package
from appcat.model.sbom import sbom
from tests.unit.support.samples import sample_image

IMAGE = dataclasses.replace(
    sample_image(),
    packages=(
        Package("libstdc++6", "1:12.2.0-14+deb12u1", "ab" * 32, ("GPL-3+", "Expat")),
        Package("odd", "1", "cd" * 32, ("Custom licence", "GPL-3+")),
        Package("silent", "2", "ef" * 32),
    ),
)


def test_each_package_with_its_licences() -> None:
    document = sbom(IMAGE, "2026-01-02T03:04:05Z", "appcat-1")
    first, odd, silent = document["packages"]
    assert first["name"] == "libstdc++6"
    assert first["licenseDeclared"] == "GPL-3.0-or-later AND MIT"
    assert first["externalRefs"][0]["referenceLocator"] == "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0-14%2Bdeb12u1"
    assert first["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert odd["licenseDeclared"] == "GPL-3.0-or-later AND LicenseRef-Custom-licence"
    assert silent["licenseDeclared"] == "NOASSERTION"
    assert [info["licenseId"] for info in document["hasExtractedLicensingInfos"]] == ["LicenseRef-Custom-licence"]


def test_identifiers_are_as_spdx_wants_them() -> None:
    document = sbom(IMAGE, "2026-01-02T03:04:05Z", "appcat-1")
    identifiers = [package["SPDXID"] for package in document["packages"]]
    assert len(set(identifiers)) == 3
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", identifier) for identifier in identifiers)
    assert document["documentDescribes"] == identifiers
    assert (document["spdxVersion"], document["dataLicense"]) == ("SPDX-2.3", "CC0-1.0")
