"""Schedules: which faults meet which work, in which order, drawn from a seed.

Invariant: a schedule is text, and its text is all there is to it: the same text is the same schedule. Faults are
placed between and inside operations, by counts and bytes; no step depends on how long another one took.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

KILL_POINTS = (
    "commit-before", "commit-after", "statement-after", "checkpoint-before", "checkpoint-after",
    "deliver-before", "deliver-after", "acquire-before", "acquire-after", "fill-before", "fill-after",
    "finish_fill-before", "finish_fill-after", "quarantine-before", "quarantine-after", "set_epoch-after",
    "compact-before", "compact-after", "heartbeat-after",
)  # fmt: skip
GRACE_S = 300


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a verb, and words that say to whom, what and how much."""

    verb: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.verb, *self.words))


@dataclass(frozen=True, slots=True)
class Schedule:
    """`header` sets how the run is set up: nodes, companies, the vault's options."""

    seed: int
    header: dict[str, str]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        set_up = " ".join(f"{name}={value}" for name, value in {"seed": self.seed, **self.header}.items())
        return "\n".join([set_up, *map(str, self.steps)])

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule whose text this is. Lines that are empty or begin with '#' do not count."""
        first, *rest = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
        header = dict(part.split("=", 1) for part in first.split())
        seed = int(header.pop("seed"))
        return cls(seed, header, tuple(Step(words[0], tuple(words[1:])) for words in map(str.split, rest)))

    @property
    def nodes(self) -> list[str]:
        return self.header["nodes"].split(",")

    @property
    def companies(self) -> list[str]:
        return self.header["companies"].split(",")


def generate(seed: int) -> Schedule:
    """The schedule of `seed`."""
    chance = random.Random(seed)
    nodes = chance.choices((["a"], ["a", "b"]), (2, 3))[0]
    companies = ["one", "two", "three"][: chance.randint(1, 3)]
    header = {
        "nodes": ",".join(nodes),
        "companies": ",".join(companies),
        "durability": chance.choices(("local", "remote"), (4, 1))[0],
        "compact_bytes": chance.choice(("2000", "8388608")),
        "tick_s": chance.choice(("1.0", "0.03", "0.03")),
    }
    return Schedule(seed, header, tuple(_Author(chance, nodes, companies).steps(chance.randint(12, 36))))


class _Author:
    """Writes steps; knows which faults are on, so that it also ends some, and works more often than it breaks."""

    def __init__(self, chance: random.Random, nodes: list[str], companies: list[str]) -> None:
        self._chance = chance
        self._nodes = nodes
        self._companies = companies
        self._faults: dict[str, Step] = {}  # what ends each fault that is on
        self._rewinds = len(nodes) == 1

    def steps(self, count: int) -> list[Step]:
        written = [Step("start", (node,)) for node in self._nodes]
        written += [Step("open", (self._chance.choice(self._nodes), company)) for company in self._companies]
        while len(written) < count:
            written += self._next()
        return written

    def _next(self) -> list[Step]:
        contended = 11 if len(self._nodes) > 1 else 0
        kinds = {
            self._work: 52,
            self._server: 9,
            self._network: 9,
            self._process: 11,
            self._machine: 7,
            self._take_over: contended,
            self._stand_on_files: 3,
            self._end_one: 12 + contended // 2,
        }
        return self._chance.choices(list(kinds), list(kinds.values()))[0]()

    def _on(self, name: str, step: Step, end: Step) -> list[Step]:
        self._faults[name] = end
        return [step]

    def _end_one(self) -> list[Step]:
        if not self._faults:
            return self._work()
        return [self._faults.pop(self._chance.choice(sorted(self._faults)))]

    def _work(self) -> list[Step]:
        node, company = self._chance.choice(self._nodes), self._chance.choice(self._companies)
        verb = self._chance.choices(("write", "open", "read", "release", "rest"), (60, 18, 8, 6, 8))[0]
        if verb == "rest":
            return [Step("rest", (self._chance.choice(("20", "60", "150")),))]
        if verb == "write":
            return [Step("write", (node, company, str(self._chance.choice((1, 1, 2, 3, 5)))))]
        return [Step(verb, (node, company))]

    def _server(self) -> list[Step]:
        kind = self._chance.choices(
            ("crash", "terminate", "freeze", "readonly", "full", "stop"), (30, 15, 20, 15, 15, 5)
        )[0]
        if kind in ("crash", "terminate"):
            return [Step("pg", (kind,))]
        ends = {"freeze": "thaw", "readonly": "writable", "full": "roomy", "stop": "start"}
        if "freeze" in self._faults and kind in ("readonly", "full"):
            return [self._faults.pop("freeze")]
        return self._on(kind, Step("pg", (kind,)), Step("pg", (ends[kind],)))

    def _network(self) -> list[Step]:
        node = self._chance.choice(self._nodes)
        kind = self._chance.choice(("cut", "refuse", "stall", "mute", "cut_requests", "cut_answers"))
        if kind == "cut":
            return [Step("net", (node, "cut"))]
        if kind.startswith("cut_"):
            return [Step("net", (node, kind, str(self._chance.choice((1, 40, 400, 1500, 6000)))))]
        return self._on(f"net {node}", Step("net", (node, kind)), Step("net", (node, "heal")))

    def _process(self) -> list[Step]:
        node = self._chance.choice(self._nodes)
        kind = self._chance.choices(("kill", "arm", "stop", "pause"), (22, 52, 13, 13))[0]
        if kind == "arm":
            point = self._chance.choice(KILL_POINTS)
            return [Step("arm", (node, point, str(self._chance.choice((1, 1, 1, 2, 3)))))]
        if kind == "pause":
            return self._on(f"pause {node}", Step("pause", (node,)), Step("resume", (node,)))
        return self._on(f"down {node}", Step(kind, (node,)), Step("start", (node,)))

    def _stand_on_files(self) -> list[Step]:
        """Mostly work and a restart come between, and PostgreSQL is there or not as it happens."""
        node, company = self._chance.choice(self._nodes), self._chance.choice(self._companies)
        written = self._on(f"files {node}", Step("detach", (node,)), Step("rejoin", (node,)))
        written.append(Step("write", (node, company, str(self._chance.choice((1, 2, 4))))))
        if self._chance.random() < 0.5:
            how = self._chance.choice(("kill", "stop"))
            written += [Step(how, (node,)), Step("start", (node,)), Step("open", (node, company))]
        return written

    def _take_over(self) -> list[Step]:
        old, new = self._chance.sample(self._nodes, 2)
        company = self._chance.choice(self._companies)
        written = [Step("open", (old, company))]
        # Mostly the old owner is cut off first, and goes on acknowledging what PostgreSQL never gets.
        how = self._chance.choice(("stall", "refuse", "mute", "pause", "nothing"))
        if how in ("stall", "refuse", "mute"):
            written += self._on(f"net {old}", Step("net", (old, how)), Step("net", (old, "heal")))
        written.append(Step("write", (old, company, str(self._chance.choice((1, 2, 4))))))
        if how == "pause":
            written += self._on(f"pause {old}", Step("pause", (old,)), Step("resume", (old,)))
        written += [Step("expire", (old,)), Step("open", (new, company))]
        if self._chance.random() < 0.7:
            written.append(Step("write", (new, company, "1")))
        return written

    def _machine(self) -> list[Step]:
        node, company = self._chance.choice(self._nodes), self._chance.choice(self._companies)
        kind = self._chance.choices(
            ("clock", "reboot", "disk", "damage", "drained damage", "live damage", "keep", "rewind"),
            (20, 8, 25, 8, 10, 8, 13, 10),
        )[0]
        if kind == "clock":
            which = self._chance.choice(("boot", "wall"))
            seconds = self._chance.choice((100, 400, 4000) if which == "boot" else (-4000, -100, 100, 4000))
            return [Step("clock", (node, which, str(seconds)))]
        if kind == "reboot":
            return [Step("reboot", (node,)), Step("start", (node,))]
        if kind == "disk":
            return self._on(f"disk {node}", Step("disk", (node, "full")), Step("disk", (node, "roomy")))
        if kind.endswith("damage"):
            first = [Step("drain", (node,))] if kind.startswith("drained") else []
            how = self._chance.choice(("flip", "flip", "truncate", "empty"))
            where = f"{self._chance.random():.4f}"
            if kind.startswith("live"):
                return [Step("gnaw", (node, how, where))]
            return [*first, Step("damage", (node, how, where)), Step("start", (node,))]
        if not self._rewinds:
            return self._work()
        if kind == "keep":
            return [Step("keep", (company,))]
        worked = [Step("keep", (company,)), Step("write", (node, company, "2"))]
        return [*worked, *self._chance.choice(([], [Step("drain", (node,))])), Step("rewind", (company,))]
