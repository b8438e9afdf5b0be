"""The OpenAPI document at ``/openapi.json`` and pages to browse it at ``/docs``, with nothing from elsewhere.

Swagger UI comes out of the package ``fastapi-offline``. The pages hold nothing private, so they need no token; what is
tried out from them does (the button "Authorize").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import FileResponse, Response

STATIC = Path(fastapi_offline.__file__).parent / "static"
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>appcat: the API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""


def install(app: FastAPI) -> None:
    """Give ``app`` its document and the pages."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    for name, media in ASSETS.items():
        app.add_route(f"/docs/{name}", _asset(name, media), include_in_schema=False)
    app.add_route("/docs", _page, include_in_schema=False)
    app.add_route("/docs/start.js", _start, include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, and that TCP doors want a token."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schemes = made.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "Needed over TCP; the unix socket knows its user.",
        }
        made["security"] = [{}, {"token": []}]
        app.openapi_schema = made
    return app.openapi_schema


def _asset(name: str, media: str) -> Any:
    async def serve(_request: Any) -> Response:
        return FileResponse(STATIC / name, media_type=media, headers={"Cache-Control": "max-age=3600"})

    return serve


async def _page(_request: Any) -> Response:
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
    return Response(PAGE, media_type="text/html", headers=headers)


async def _start(_request: Any) -> Response:
    return Response(START, media_type="text/javascript")
