"""`/sessions/{company}/groups`: the groups that a company is in.

Invariant: WhatsApp is asked each time, so the session must be open.
"""

from __future__ import annotations

from starlette.responses import Response

from standfast.api.answers import Group, Groups
from standfast.api.routes import Answer, CompanyPath, Json, Routes

_TAG = "groups"
_GROUP = {"jid": "120363000000000001@g.us", "name": "Team"}


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    async def list_groups(company: CompanyPath) -> Response:
        """Without their members."""
        return Json({"groups": await parts.messenger.groups(company)})

    async def get_group(company: CompanyPath, group: str) -> Response:
        """By its address (…@g.us), with its members."""
        return Json(await parts.messenger.group(company, group))

    routes.add(
        "GET",
        "/sessions/{company}/groups",
        list_groups,
        tag=_TAG,
        scope="read",
        summary="List the groups",
        answers={200: Answer("Every group.", Groups, {"groups": [_GROUP]})},
        problems=(404, 409),
    )
    routes.add(
        "GET",
        "/sessions/{company}/groups/{group}",
        get_group,
        tag=_TAG,
        scope="read",
        summary="One group with its members",
        answers={200: Answer("The group.", Group, _GROUP)},
        problems=(404, 409),
    )
