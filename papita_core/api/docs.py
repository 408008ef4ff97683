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

from papita_core.api.problems import MEDIA_TYPE

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


def _describe_problems(description: dict[str, Any]) -> None:
    """Errors are answered as RFC 9457 problem details, which has a media type of its own.

    A header whose absence is an error of its own (428) is needed, although the routes take requests
    without it, to say so. A body that is no JSON at all is a 400 wherever there is one.
    """
    for operations in description["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["required"] = parameter["required"] or parameter["name"] == "If-Match"
            if "requestBody" in operation:
                operation["responses"].setdefault("400", dict(_NOT_UNDERSTOOD))
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if status.startswith(("4", "5")) and "application/json" in content:
                    response["content"] = {MEDIA_TYPE: content["application/json"]}


_NOT_UNDERSTOOD = {
    "description": "The body cannot be understood.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


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
        for path in ("/token", "/leases/check", "/loans", "/erasures", "/erasures/{user_id}"):
            for way in description["paths"][path].values():
                way["security"] = [{"client": []}]
        description["paths"]["/.well-known/jwks.json"]["get"]["security"] = []
        _describe_problems(description)
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
