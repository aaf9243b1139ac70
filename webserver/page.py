"""The page: rendered once with what is the case, kept up to date by its script."""

from __future__ import annotations

import json
import time
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from federation.runtime.version import VERSION
from webserver.access import CSRF_COOKIE, new_cookie
from webserver.asking import FederationQuery
from webserver.site import Site

FOLDER = Path(__file__).parent

COOKIE_LENGTH = len(new_cookie())


class _Revalidated(StaticFiles):
    """Files that a browser keeps and asks about: a new release is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def add_page(app: FastAPI, site: Site) -> None:
    """Serve the page and its files."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,  # client ids and reasons are hostile input
        undefined=StrictUndefined,
    )
    router = APIRouter()

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request, federation: FederationQuery = None) -> Response:
        live = site.live
        if federation is not None and not live.knows(federation):
            return RedirectResponse("./", 303)
        cookie = request.cookies.get(CSRF_COOKIE, "")
        if len(cookie) != COOKIE_LENGTH:
            cookie = new_cookie()
        content = templates.get_template("index.html").render(
            overview=json.loads(live.overview_text(live.federation_id(federation), time.time())),
            csrf=site.access.page_token(cookie),
            version=VERSION,
        )
        answer = HTMLResponse(content)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            CSRF_COOKIE, cookie, samesite="strict", httponly=True, path="/", secure=secure
        )
        return answer

    app.include_router(router)
    app.mount("/static", _Revalidated(directory=FOLDER / "static"), name="static")
