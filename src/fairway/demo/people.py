"""Who has an account, and which channels there are. None of them exists."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.registry.actor import Role, Scope, Visibility

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    full_name: str
    admin: bool = False
    password: bool = False  # one is made and printed; the others cannot sign in


@dataclass(frozen=True, slots=True)
class Home:
    """A channel. `fame` scales its downloads; the first member is its owner."""

    name: str
    visibility: Visibility
    description: str
    members: dict[str, Role]
    fame: float
    readme: str = ""
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: made so many days ago, for so many days or for ever, and last used so many hours ago or never."""

    user: str
    name: str
    scope: Scope
    made_days: int
    channels: tuple[str, ...] = ()
    lives_days: int | None = None
    used_hours: float | None = None


ADMIN, MEMBER = "mara", "tomas"
ROBOT = "saltmarsh-ci"

PEOPLE = (
    Person("mara", "Mara Lindholm", admin=True, password=True),
    Person("tomas", "Tomás Ferreira", password=True),
    Person("yuki", "Yuki Arakawa"),
    Person("adaeze", "Adaeze Okonjo"),
    Person("ingrid", "Ingrid Solvang"),
    Person("leon", "Léon Marchetti"),
    Person("saltmarsh-ci", "Saltmarsh build machine"),
)

SALTMARSH = """\
# Saltmarsh Robotics

Everything a **tidal inspection robot** needs that we may give away: drivers, messages, the simulator. What is in here runs on
the robots we sell; each release has been on a pier for a week before it gets a version number.

## Begin

```
pixi workspace channel add {url}/saltmarsh
pixi add saltmarsh-robot
```

The metapackage `saltmarsh-robot` brings the runtime, the drivers and the command line tools. If you only want to *read* our
recordings, `tidelog` is enough.

| You want to | Take |
|---|---|
| drive a robot | `saltmarsh-robot` |
| replay a recording | `tidelog`, `tidelog-view` |
| try without a robot | `brine-sim`, `brine-worlds` |
| write a driver | `saltmarsh-core`, `saltmarsh-msgs` |

## Promises

1. A minor version never breaks a driver that was built against an earlier one: run exports pin to the next major version.
2. Two major versions are kept working at a time.
3. What we withdraw is yanked, not deleted. Your lock files go on working.

> Found a bug? Write to the address in the package's metadata. We answer on working days, when the tide allows.
"""

FLEET = """\
# Fleet

What runs on customers' robots, and nothing else. **Uploads come from the build machine only.**

- `fleet-image-*` are pinned sets, one for each robot model. Never edit one by hand.
- A robot updates at night, in the hour its owner chose.
- To take a version back, yank it with a reason; the robots stay on the version before.
"""

TOOLS = """\
# Internal tools

Scripts that more than two of us need. Put yours here rather than into a chat message.

There are no promises about versions. If a tool matters to you, pin it.
"""

POLAR = """\
# Polar Ocean Group

Software behind our papers on **sea ice, salinity and under-ice currents**. Each paper names the exact versions it was made
with, and those stay here.

## How to cite

Every package has a file `CITATION.cff` below `share/<package>/`. Please cite the paper, and say which version you used.

## Data

Small sets for tests and lectures are packages too (`icefloe-testdata`, `ctd-casts`). Whole cruises are not: ask for the archive.
"""

BENCH = """\
# Unpublished

Working versions of the group's models. Numbers may change from one day to the next, so **do not cite anything from here**.
"""

ODDITIES = """\
# Oddities

Names and texts that are hard to show: the longest name there can be, scripts that run from right to left, pictures, and
texts that try to be markup.

<script>document.title = "this must never run"</script>
<img src="x" onerror="document.title = 'nor this'">

[A link that is no link](javascript:alert(1)) and [one that is](https://saltmarsh.example/oddities).

שלום וברוכים הבאים לערוץ. هذا السطر يُقرأ من اليمين إلى اليسار. 🦀🌊
"""

CHANNELS = (
    Home(
        "saltmarsh",
        Visibility.PUBLIC,
        "Drivers, messages and a simulator for tidal inspection robots. Everything Saltmarsh Robotics gives away.",
        {
            "mara": Role.OWNER,
            "yuki": Role.OWNER,
            "tomas": Role.MAINTAINER,
            "saltmarsh-ci": Role.UPLOADER,
            "leon": Role.VIEWER,
        },
        fame=9.0,
        readme=SALTMARSH,
    ),
    Home(
        "saltmarsh-tools",
        Visibility.INTERNAL,
        "Tools that more than two of us need. No promises about versions.",
        {"yuki": Role.OWNER, "tomas": Role.UPLOADER, "adaeze": Role.UPLOADER, "leon": Role.UPLOADER},
        fame=1.5,
        readme=TOOLS,
        quota=50 * MEGABYTE,
    ),
    Home(
        "saltmarsh-fleet",
        Visibility.PRIVATE,
        "What runs on customers' robots. Uploads come from the build machine only.",
        {"mara": Role.OWNER, "saltmarsh-ci": Role.UPLOADER, "yuki": Role.MAINTAINER, "tomas": Role.VIEWER},
        fame=4.0,
        readme=FLEET,
        quota=40 * MEGABYTE,
    ),
    Home(
        "polar-ocean",
        Visibility.PUBLIC,
        "Software behind the Polar Ocean Group's papers on sea ice, salinity and under-ice currents.",
        {"ingrid": Role.OWNER, "adaeze": Role.MAINTAINER, "leon": Role.UPLOADER, "tomas": Role.OWNER},
        fame=3.0,
        readme=POLAR,
    ),
    Home(
        "polar-ocean-bench",
        Visibility.PRIVATE,
        "Working versions of the group's models. Do not cite anything from here.",
        {"ingrid": Role.OWNER, "adaeze": Role.UPLOADER, "leon": Role.VIEWER},
        fame=0.4,
        readme=BENCH,
    ),
    Home(
        "oddities",
        Visibility.PUBLIC,
        "Names and texts that are hard to show. A look at the edges of this server's pages.",
        {"mara": Role.OWNER, "tomas": Role.MAINTAINER},
        fame=0.2,
        readme=ODDITIES,
    ),
    Home(
        "forge",
        Visibility.PUBLIC,
        "Stand-ins for what comes from a public channel such as conda-forge. A real server would have that as an upstream.",
        {"mara": Role.OWNER},
        fame=1.0,
    ),
    Home(
        "pier-trial",
        Visibility.PRIVATE,
        "Builds for the trial at the pier. Deleted; an owner can bring it back for some days.",
        {"yuki": Role.OWNER},
        fame=0.1,
    ),
)
DELETED = "pier-trial"
BASES = {
    "saltmarsh": "forge",
    "oddities": "forge",
    "saltmarsh-tools": "saltmarsh",
    "saltmarsh-fleet": "saltmarsh",
    "polar-ocean-bench": "polar-ocean",
    "polar-ocean": "saltmarsh",
}
"""What channels build on (CEP 42)."""

KEYS = (
    ApiKey("saltmarsh-ci", "Build machine", Scope.UPLOAD, 330, ("saltmarsh", "saltmarsh-fleet"), 365, 0.4),
    ApiKey("tomas", "Laptop", Scope.READ, 210, (), 365, 3),
    ApiKey("tomas", "Release of icefloe", Scope.UPLOAD, 86, ("polar-ocean",), 90, 30),
    ApiKey("tomas", "Robot on the bench", Scope.READ, 12, ("saltmarsh", "saltmarsh-fleet")),
    ApiKey("mara", "Backup", Scope.READ, 150, (), 365, 9),
)
# Who asks whom, into which channel (none: onto the server) and as what. None of them has answered.
INVITED = (
    ("ingrid", "polar-ocean-bench", "tomas", Role.VIEWER),
    ("mara", "saltmarsh", "adaeze", Role.MAINTAINER),
    ("mara", "", "noor@saltmarsh.example", Role.VIEWER),
    ("mara", "saltmarsh-fleet", "harbour@pier.example", Role.VIEWER),
)
