"""What an image is made of, as a bill of materials: SPDX 2.3 in JSON (https://spdx.github.io/spdx-spec/v2.3/)."""

from __future__ import annotations

import re
from typing import Any

from appcat.model.image import Image, Package

VERSION = "SPDX-2.3"
NOTHING = "NOASSERTION"
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9.-]")
# Debian's short names where SPDX calls the licence something else; what is the same in both is added below.
_SPDX = {
    "GPL-1": "GPL-1.0-only", "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only", "GPL-2+": "GPL-2.0-or-later",
    "GPL-2.0": "GPL-2.0-only", "GPL-2.0+": "GPL-2.0-or-later",
    "GPL-3": "GPL-3.0-only", "GPL-3+": "GPL-3.0-or-later", "GPL-3.0": "GPL-3.0-only", "GPL-3.0+": "GPL-3.0-or-later",
    "LGPL-2": "LGPL-2.0-only", "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-2.1+": "LGPL-2.1-or-later", "LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later",
    "AGPL-3": "AGPL-3.0-only", "AGPL-3+": "AGPL-3.0-or-later",
    "BSD-2-clause": "BSD-2-Clause", "BSD-3-clause": "BSD-3-Clause", "BSD-4-clause": "BSD-4-Clause",
    "Expat": "MIT", "ISC": "ISC", "Zlib": "Zlib", "zlib": "Zlib", "Apache-2.0": "Apache-2.0", "CC0-1.0": "CC0-1.0",
    "MPL-2.0": "MPL-2.0", "MPL-1.1": "MPL-1.1", "Artistic": "Artistic-1.0-Perl", "curl": "curl",
    "GFDL-1.3": "GFDL-1.3-only", "GFDL-1.3+": "GFDL-1.3-or-later", "PSF-2": "PSF-2.0", "BSL-1.0": "BSL-1.0",
}  # fmt: skip


def sbom(image: Image, created: str, tool: str) -> dict[str, Any]:
    """The document of one image; ``created`` in RFC 3339 UTC, ``tool`` who made it, with its version.

    Licences are what Debian's copyright files declare, all of a package joined by AND; one that SPDX has no name for is
    a ``LicenseRef``.
    """
    packages = [_package(package) for package in image.packages]
    names = sorted({name for package in image.packages for name in package.licenses if name not in _SPDX})
    return {
        "spdxVersion": VERSION,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image.template}-{image.digest[:12]}",
        "documentNamespace": f"urn:appcat:image:{image.digest}",
        "creationInfo": {"created": created, "creators": [f"Tool: {tool}"]},
        "packages": packages,
        "hasExtractedLicensingInfos": [
            {"licenseId": _license(name), "extractedText": f"{name}: see /usr/share/doc/*/copyright", "name": name}
            for name in names
        ],
        "documentDescribes": [package["SPDXID"] for package in packages],
    }


def _package(package: Package) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{_identifier(package.name)}",
        "name": package.name,
        "versionInfo": package.version,
        "supplier": "Organization: Debian",
        "downloadLocation": NOTHING,
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": package.sha256}],
        "licenseConcluded": NOTHING,
        "licenseDeclared": " AND ".join(sorted({_license(name) for name in package.licenses})) or NOTHING,
        "copyrightText": NOTHING,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": f"pkg:deb/debian/{package.name.replace('+', '%2B')}@{_quoted(package.version)}",
            }
        ],
    }


def _license(name: str) -> str:
    return _SPDX.get(name, f"LicenseRef-{_identifier(name)}")


def _identifier(name: str) -> str:
    """What SPDX allows in an identifier; a plus sign is told apart from other signs."""
    return _NOT_IN_IDS.sub("-", name.replace("+", "-plus"))


def _quoted(version: str) -> str:
    from urllib.parse import quote

    return quote(version, safe="")
