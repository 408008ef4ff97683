"""What the container images hold and how they run, read from the files; no engine is needed.

`make images` builds and runs them for real.
"""

# ruff: noqa: S104, S108 - what containers listen to and write to is what is tested here

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy import images

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("portal", "alchat")


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]


def read() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    stage = None
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.split()
            stage = stages[name] = Stage(name, base)
        elif stage is not None:
            stage.steps.append((instruction, arguments.strip()))
    return stages


STAGES = read()


def lineage(name: str) -> list[Stage]:
    """The stage and those it is built on, the last one first."""
    found = []
    while name in STAGES:
        found.append(STAGES[name])
        name = STAGES[name].base
    return found


def copies(stage: Stage) -> list[tuple[str | None, list[str], str]]:
    """Source stage, sources, destination, of each COPY."""
    found = []
    for arguments in stage.of("COPY"):
        words = shlex.split(arguments)
        origin = None
        if words[0].startswith("--from="):
            origin = words.pop(0).removeprefix("--from=")
        found.append((origin, words[:-1], words[-1]))
    return found


def sources(target: str) -> set[str]:
    return {
        source
        for stage in lineage(target)
        for origin, names, _ in copies(stage)
        if origin is None
        for source in names
    }


def last(target: str, instruction: str) -> str:
    return next(s for stage in lineage(target) for s in reversed(stage.of(instruction)))


def environment(target: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for stage in reversed(lineage(target)):
        for arguments in stage.of("ENV"):
            found.update(word.split("=", 1) for word in shlex.split(arguments))
    return found


def requirements(target: str) -> Path:
    (origin,) = {o for o, _, _ in copies(STAGES[target]) if o is not None}
    (name,) = {s for o, names, _ in copies(STAGES[origin]) if o is None for s in names}
    install = " ".join(STAGES[origin].of("RUN"))
    assert install.endswith(f"-r {name}")
    assert "--require-hashes" in install
    assert "--no-deps" in install
    return ROOT / name


def pinned(path: Path) -> set[str]:
    """Names in a requirements file, each of which has to be pinned and hashed."""
    names = set()
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"([A-Za-z0-9._-]+)(\[[^\]]*\])?==\S+", line)
        assert match, line
        assert "--hash=sha256:" in line, match[1]
        names.add(match[1].lower())
    return names


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps `path` from the builder: the last line that matches decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep = pattern.startswith("!")
        if _matches(path, pattern.lstrip("!")):
            result = not keep
    return result


def _matches(path: str, pattern: str) -> bool:
    parts = path.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    expression = "".join(
        {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(token, token)
        if not token.startswith("[")
        else token
        for token in re.split(r"(\*\*/|\*|\?|\[[^\]]*\])", re.sub(r"\.", r"\\.", pattern))
    )
    return any(re.fullmatch(expression, head) for head in heads)


def test_there_is_one_target_for_each_image() -> None:
    assert set(TARGETS) <= set(STAGES)
    assert [image.target for image in images.IMAGES] == ["alchat", "portal"]


def test_the_base_is_an_argument_with_a_slim_pinned_default() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "syntax=" not in text
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert default
    assert re.fullmatch(r"python:3\.1[1-4]-slim-\w+(@sha256:[0-9a-f]{64})?", default[1])
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert bases == {"${PYTHON_IMAGE}"}


def test_alchat_gets_its_own_package_and_migrations_alone() -> None:
    assert sources("alchat") == {"LICENSE", "alchat_core", "migrations/alchat", "sqlkit"}


def test_the_portal_gets_both_cores_its_pages_and_its_settings() -> None:
    assert sources("portal") == {
        "LICENSE",
        "Home.py",
        ".streamlit",
        "alchat_core",
        "migrations/papita",
        "pages",
        "papita_core",
        "portal",
        "sqlkit",
    }


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_what_is_copied_exists_and_reaches_the_builder(stage: Stage) -> None:
    for origin, names, _ in copies(stage):
        if origin is not None:
            assert origin in STAGES
            continue
        for name in names:
            path = ROOT / name
            assert path.exists(), name
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            kept = [p for p in files if not ignored(p.relative_to(ROOT).as_posix())]
            assert kept, name
            left = {p.suffix for p in files} - {p.suffix for p in kept}
            assert left <= {".pyc", ".db", ".log", ".key"}, name


def test_requirements_are_pinned_with_hashes_and_fit_their_image() -> None:
    alchat, portal = pinned(requirements("alchat")), pinned(requirements("portal"))
    assert requirements("alchat").name == "requirements-alchat.txt"
    assert requirements("portal").name == "requirements.txt"
    assert {"streamlit", "streamlit-authenticator", "pandas", "pyarrow"} <= portal - alchat
    assert alchat <= portal
    assert not {"pytest", "playwright", "ruff", "mypy", "hypothesis"} & portal


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_as_a_user_without_rights(target: str) -> None:
    assert last(target, "USER") == "10001:10001"
    steps = [name for name, _ in STAGES[target].steps]
    assert "RUN" not in steps[steps.index("USER") :]
    assert not any("--chown" in a for stage in lineage(target) for a in stage.of("COPY"))


@pytest.mark.parametrize(
    ("target", "module", "port", "volumes"),
    [("portal", "portal", 3000, {"/data", "/keys"}), ("alchat", "alchat_core", 8000, {"/data"})],
)
def test_it_listens_to_the_outside_and_tells_its_health(
    target: str, module: str, port: int, volumes: set[str]
) -> None:
    prefix = "PAPITA" if target == "portal" else "ALCHAT"
    env = environment(target)
    assert env[f"{prefix}_HOST"] == "0.0.0.0"
    assert env[f"{prefix}_PORT"] == str(port)
    assert env["PAPITA_DATA_DIR"] == "/data"
    assert last(target, "EXPOSE") == str(port)
    assert last(target, "CMD") == f'["python", "-m", "{module}"]'
    assert set(re.findall(r'"([^"]+)"', last(target, "VOLUME"))) == volumes
    health = last(target, "HEALTHCHECK")
    assert "/healthz" in health
    assert f"{prefix}_PORT" in health
    code = re.search(r'"-c", "(.+)"\]$', health)
    assert code
    compile(code[1], "healthcheck", "exec")


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_is_built_in(target: str) -> None:
    for stage in lineage(target):
        for arguments in stage.of("ENV") + stage.of("ARG"):
            assert not re.search(r"SECRET|MASTER|TOKEN|PASSWORD|API_KEY", arguments)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        ".venv/bin/python",
        "data/papita.db",
        "keys/master.key",
        "deploy/secrets/master-key",
        "papita.toml",
        "portal/.env.local",
        "portal/__pycache__/server.cpython-311.pyc",
        "portal/deep/down/__pycache__/x.pyc",
        "papita_core/test.db-wal",
        ".streamlit/secrets.toml",
        "tests/conftest.py",
        "demo/provider/server.py",
        "requirements-test.txt",
        "Dockerfile",
    ],
)
def test_the_builder_never_sees(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    [
        "Home.py",
        "requirements.txt",
        "requirements-alchat.txt",
        ".streamlit/config.toml",
        "alchat_core/api/app.py",
        "migrations/papita/versions/0001.py",
        "pages/workspace/dashboard.py",
        "portal/assets/mark.svg",
    ],
)
def test_the_builder_sees(path: str) -> None:
    assert not ignored(path)


def test_dockerignore_allows_by_name() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert not any(fnmatch.fnmatch("x", name) or "*" in name for name in allowed)


def test_without_an_engine_images_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.images"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no container engine answers" in done.stderr
    assert "Traceback" not in done.stderr


ENGINE = r"""#!{python}
import json, os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\n")
state = json.load(open({state!r}))
if arguments[0] == "run" and "-c" in arguments:
    print(json.dumps(state["look"][arguments[arguments.index("-c") - 1]]))
elif arguments[:2] == ["image", "inspect"]:
    print(200_000_000)
elif arguments[0] == "inspect":
    print("true" if "State.Running" in arguments[2] else state["health"])
elif arguments[0] == "logs":
    print("the last lines")
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named docker that answers as the state file in its folder says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        ENGINE.format(
            python=sys.executable, log=str(tmp_path / "log"), state=str(tmp_path / "state")
        )
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    write_state(tmp_path)
    return tmp_path


def write_state(folder: Path, *, health: str = "healthy", **alchat: object) -> None:
    import json

    good = {"uid": 10001, "writable": ["/data", "/tmp"]}
    look = {image.tag: {**good, "modules": list(image.present)} for image in images.IMAGES}
    look["papita-alchat"].update(alchat)
    (folder / "state").write_text(json.dumps({"health": health, "look": look}))


def test_images_builds_looks_waits_and_cleans_up(
    engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert images.main(["--pull=false"]) == 0
    out = capsys.readouterr().out
    assert "200 MB" in out
    log = (engine / "log").read_text()
    assert log.count('["build", "--target"') == 2
    assert log.count("--pull=false") == 2
    assert log.count("--read-only") == 4
    assert log.count('["rm", "--force"') == 2


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"modules": ["alchat_core", "streamlit"]}, "holds streamlit"),
        ({"modules": []}, "lacks alchat_core"),
        ({"uid": 0}, "uid 0"),
        ({"writable": ["/app", "/data", "/tmp"]}, "can write to /app"),
    ],
)
def test_images_tells_what_is_wrong(
    engine: Path, capsys: pytest.CaptureFixture[str], state: dict[str, object], words: str
) -> None:
    write_state(engine, **state)
    assert images.main(["--only", "alchat"]) == 1
    assert words in capsys.readouterr().err


def test_images_gives_up_on_one_that_never_becomes_healthy(
    engine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "HEALTHY_WITHIN", 0.3)
    write_state(engine, health="starting")
    assert images.main(["--only", "alchat"]) == 1
    assert "the last lines" in capsys.readouterr().err
    assert '["rm", "--force"' in (engine / "log").read_text()
