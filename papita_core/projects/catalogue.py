"""The projects of the portal, declared in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Project:
    """`audience` is what the project's user tokens are for; `page` its path in the portal.

    Of `credential_types` the first is what it cannot do without.
    """

    id: str
    title: str
    summary: str
    icon: str
    credential_types: tuple[str, ...]
    page: str | None
    installed: bool


AL_CHAT = Project(
    id="al-chat",
    title="AL-Chat",
    summary="Ask any model of your provider. Answers go on while you are away.",
    icon=":material/forum:",
    credential_types=("openai", "mcp"),
    page="/al-chat",
    installed=True,
)
AI_RESUME = Project(
    id="ai-resume",
    title="AI Resume",
    summary="Write and tailor a CV with the help of a model.",
    icon=":material/description:",
    credential_types=("openai",),
    page=None,
    installed=False,
)

PROJECTS: tuple[Project, ...] = (AL_CHAT, AI_RESUME)
