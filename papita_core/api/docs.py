"""`/api/docs`: the API to read and to try, from files of our own server.

Swagger UI comes as a package, not from another site, so the page works without internet and under a
policy that lets no inline script run.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; font-src 'self' data:;"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Papita API</title>
<link rel="icon" href="docs/static/favicon.png">
<link rel="stylesheet" href="docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
})
"""


def install(app: FastAPI) -> None:
    """Adds the page and its files to the API, and says in its description how callers prove who
    they are; the routes check that themselves.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        description = describe()
        description.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "client": {"type": "http", "scheme": "basic"},
        }
        description["security"] = [{"bearer": []}]
        description["paths"]["/token"]["post"]["security"] = [{"client": []}]
        description["paths"]["/.well-known/jwks.json"]["get"]["security"] = []
        return description

    app.openapi = openapi  # type: ignore[method-assign]

    async def page() -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    async def start() -> Response:
        return Response(START, media_type="text/javascript")

    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/docs/start.js", start, include_in_schema=False)
    static = str(files("fastapi_offline") / "static")
    app.mount("/docs/static", StaticFiles(directory=static), name="docs")
