"""What the shelves of the demo hold: a line or two for each package."""

from __future__ import annotations

from dataclasses import dataclass

# How a package is built: the platforms it is built for. `contents` makes a payload for each kind.
KINDS: dict[str, tuple[str, ...]] = {
    "python": ("noarch",),
    "data": ("noarch",),
    "meta": ("noarch",),
    "library": ("linux-64", "linux-aarch64", "osx-arm64"),
    "extension": ("linux-64", "linux-aarch64", "osx-arm64", "win-64"),
    "tool": ("linux-64", "osx-arm64", "win-64"),
    "robot": ("linux-aarch64",),
}

PERMISSIVE, MIT, APACHE, COPYLEFT, OWN = "BSD-3-Clause", "MIT", "Apache-2.0", "GPL-3.0-or-later", "LicenseRef-Saltmarsh"


@dataclass(frozen=True, slots=True)
class Pack:
    """A package: its `kind`, its newest version and how many there are up to it. `needs` are match specs, divided by
    "; "; `=this` stands for the package's own version. `fame` scales its downloads.
    """

    name: str
    kind: str
    latest: str
    releases: int
    licence: str
    summary: str
    needs: str = ""
    fame: float = 1.0
    description: str = ""


SALTMARSH = (
    Pack("saltmarsh-robot", "meta", "5.2.0", 14, APACHE, "Everything a robot needs: runtime, drivers, command line", "saltmarsh-core >=5.2,<6; saltmarsh-msgs >=4.1; saltmarsh-cli >=2.8; tidelog >=3.4; saltmarsh-drivers =this", 6),
    Pack("saltmarsh-core", "library", "5.2.3", 60, APACHE, "The runtime of a robot: scheduling, state, shared memory, watchdogs", "libmarsh >=5.2,<6; spdlog >=1.14,<2.0a0; fmt >=11,<12.0a0; yaml-cpp >=0.8,<0.9.0a0", 9, description="Nodes are plain functions; the runtime decides when they run, keeps what they share, and stops the robot when one of them is late. Written for small computers that lose power without a warning."),
    Pack("libmarsh", "library", "5.2.3", 12, APACHE, "C library below saltmarsh-core: ring buffers, clocks, checksums", "libzlib >=1.3,<2.0a0", 8),
    Pack("saltmarsh-msgs", "extension", "4.1.0", 16, APACHE, "Messages that drivers, planners and the shore exchange", "python >=3.11; numpy >=1.26,<3; flatbuffers >=24.3,<25", 8),
    Pack("saltmarsh-drivers", "meta", "5.2.0", 9, APACHE, "All drivers for the sensors and thrusters we sell", "driver-sonar-fan >=2.3; driver-sonar-side >=1.9; driver-thruster-ring >=3.0; driver-imu-nine >=1.6; driver-camera-lowlight >=2.1; driver-battery-pack >=1.4; driver-altimeter >=1.2", 5),
    Pack("saltmarsh-cli", "python", "2.8.4", 18, APACHE, "Command line: find robots, start and stop nodes, fetch recordings", "python >=3.11; click >=8.1; rich >=13; tidelog >=3.2; saltmarsh-msgs >=4", 5),
    Pack("saltmarsh-compilers", "meta", "1.6.0", 5, PERMISSIVE, "Compilers and flags our libraries are built with", "cxx-compiler >=1.9; cmake >=3.29; ninja", 2),
    Pack("driver-sonar-fan", "library", "2.3.1", 8, APACHE, "Driver for the forward-looking fan sonar, 120 beams", "saltmarsh-core >=5.1,<6; fftw >=3.3,<4.0a0", 3),
    Pack("driver-sonar-side", "library", "1.9.0", 6, APACHE, "Driver for the side-scan sonar pair", "saltmarsh-core >=5.1,<6; fftw >=3.3,<4.0a0", 2),
    Pack("driver-thruster-ring", "library", "3.0.2", 7, APACHE, "Driver for the thruster ring: mixing, ramps, current limits", "saltmarsh-core >=5.1,<6; eigen >=3.4", 3),
    Pack("driver-imu-nine", "library", "1.6.4", 6, APACHE, "Driver for the nine-axis inertial unit, with temperature tables", "saltmarsh-core >=5.1,<6; eigen >=3.4", 3),
    Pack("driver-camera-lowlight", "library", "2.1.0", 5, APACHE, "Driver for the low-light camera and its lamps", "saltmarsh-core >=5.1,<6; libjpeg-turbo >=3,<4.0a0; v4l-utils", 2),
    Pack("driver-battery-pack", "library", "1.4.2", 4, APACHE, "Driver for the battery pack: charge, cell balance, alarms", "saltmarsh-core >=5.1,<6", 2),
    Pack("driver-altimeter", "library", "1.2.1", 3, APACHE, "Driver for the bottom altimeter", "saltmarsh-core >=5.1,<6", 1),
    Pack("tidelog", "python", "3.4.1", 22, MIT, "Reads and writes the recordings of a robot, also half-written ones", "python >=3.10; numpy >=1.24; msgpack-python >=1.0; zstandard >=0.22", 9, description="A recording is a folder of chunks. Each can be read alone, so that a robot that lost power loses at most its last second."),
    Pack("tidelog-view", "python", "1.7.2", 9, MIT, "Look at a recording: tracks, sonar pictures, voltages", "python >=3.10; tidelog >=3.3; pyside6 >=6.7; pyqtgraph >=0.13", 4),
    Pack("tidelog-cpp", "library", "3.4.0", 7, MIT, "The same recordings for C++", "zstd >=1.5,<1.6.0a0; msgpack-cxx >=6", 3),
    Pack("tidelog-export", "python", "0.9.3", 5, MIT, "Recordings to CSV, Parquet and NetCDF", "python >=3.10; tidelog >=3.3; pyarrow >=16; netcdf4 >=1.6; pandas >=2.1", 3),
    Pack("brine-sim", "extension", "2.5.0", 8, COPYLEFT, "Simulator: buoyancy, currents, murky water, broken thrusters", "python >=3.11; numpy >=1.26,<3; saltmarsh-msgs >=4; brine-physics =this; brine-worlds >=1.3", 5),
    Pack("brine-physics", "library", "2.5.0", 7, COPYLEFT, "The physics of brine-sim: rigid bodies in moving water", "eigen >=3.4; libmarsh >=5,<6", 3),
    Pack("brine-worlds", "data", "1.3.0", 4, "CC-BY-4.0", "Harbours, piers and a lock to drive in", "", 3),
    Pack("brine-gym", "python", "0.6.2", 5, MIT, "Training tasks for learned controllers on top of brine-sim", "python >=3.11; brine-sim >=2.4; gymnasium >=0.29", 2),
    Pack("hullscan", "extension", "1.8.0", 6, APACHE, "Finds weld seams and corrosion in sonar and camera pictures", "python >=3.11; numpy >=1.26,<3; py-opencv >=4.9; onnxruntime >=1.18", 4),
    Pack("hullscan-models", "data", "1.8.0", 4, "CC-BY-NC-4.0", "Weights for hullscan: seams, growth, anodes", "", 3),
    Pack("hullscan-report", "python", "1.2.1", 4, APACHE, "Inspection reports from hullscan's findings", "python >=3.11; hullscan >=1.7; jinja2 >=3.1; weasyprint >=62", 2),
    Pack("marsh-nav", "library", "3.1.0", 7, APACHE, "Where am I: inertial, sonar and pier markers brought together", "saltmarsh-core >=5.1,<6; ceres-solver >=2.2,<2.3.0a0; eigen >=3.4", 4),
    Pack("marsh-plan", "library", "2.0.4", 6, APACHE, "Paths around piers that hold in a current", "saltmarsh-core >=5.1,<6; ompl >=1.6; marsh-nav >=3,<4", 3),
    Pack("marsh-control", "library", "2.4.0", 6, APACHE, "Keeps a robot where it should be", "saltmarsh-core >=5.1,<6; osqp >=0.6; eigen >=3.4", 3),
    Pack("marsh-behaviours", "python", "1.5.0", 5, APACHE, "Trees of behaviours: inspect, follow, come home", "python >=3.11; saltmarsh-msgs >=4; py-trees >=2.2", 2),
    Pack("marsh-markers", "extension", "1.1.3", 4, PERMISSIVE, "Finds pier markers in camera pictures", "python >=3.11; numpy >=1.26,<3; py-opencv >=4.9", 2),
    Pack("shorelink", "extension", "4.0.1", 7, APACHE, "The cable and the radio: robots and shore in one network", "python >=3.11; zeromq >=4.3,<4.4.0a0; libsodium >=1.0.20,<1.0.21.0a0", 4),
    Pack("shorelink-bridge", "tool", "1.3.2", 4, APACHE, "Carries shorelink topics into MQTT and back", "shorelink >=4,<5; paho-mqtt-c >=1.3", 2),
    Pack("shorelink-ros", "python", "0.8.0", 4, APACHE, "Carries shorelink topics into ROS 2 and back", "python >=3.11; shorelink >=4; rclpy", 2),
    Pack("pierside", "python", "1.10.0", 7, APACHE, "The operator's desk in a browser", "python >=3.11; starlette >=0.37; uvicorn >=0.30; saltmarsh-msgs >=4; shorelink >=4", 3),
    Pack("pierside-theme", "data", "1.10.0", 3, "CC-BY-4.0", "Colours and sounds for pierside, for bright days and night shifts", "", 1),
    Pack("calibrate-thrusters", "tool", "1.0.5", 3, APACHE, "Measures thrust curves in a bucket", "saltmarsh-core >=5,<6", 1),
    Pack("calibrate-imu", "tool", "1.1.0", 3, APACHE, "Makes the temperature tables of driver-imu-nine", "saltmarsh-core >=5,<6; eigen >=3.4", 1),
    Pack("udev-saltmarsh", "data", "1.4.0", 3, APACHE, "Names for our devices, installed where Linux looks for them", "", 2),
    Pack("sonar-colormaps", "python", "0.4.1", 3, MIT, "Colour maps that show echoes, also to people who see fewer colours", "python >=3.9; matplotlib-base >=3.8", 2),
    Pack("pytest-robot", "python", "1.2.0", 4, MIT, "Fixtures: a simulated robot, a recording, a broken link", "python >=3.10; pytest >=8; brine-sim >=2.3", 2),
    Pack("marsh-units", "python", "2.1.0", 4, MIT, "Knots, fathoms and bars without mistakes", "python >=3.9", 3),
    Pack("marsh-geodesy", "library", "1.3.0", 4, APACHE, "Tides, charts and local grids", "proj >=9.4,<9.5.0a0", 2),
    Pack("tidelog-legacy", "python", "1.0.9", 3, MIT, "Reads recordings made before version 2; use tidelog for all others", "python >=3.8; numpy", 1),
)  # fmt: skip

TOOLS = (
    Pack("marsh-release", "python", "1.14.2", 12, OWN, "Makes a release: changelog, tag, build, upload", "python >=3.11; click >=8.1; gitpython; rattler-build", 3),
    Pack("marsh-ci-images", "data", "2026.10", 6, OWN, "Lists of what our build machines have installed", "", 1),
    Pack("bucket-sync", "tool", "0.7.0", 4, OWN, "Recordings from the boats to the archive, over bad lines", "rclone", 2),
    Pack("dive-planner", "python", "0.12.1", 6, OWN, "Spreadsheet of dives to mission files", "python >=3.11; openpyxl >=3.1; saltmarsh-msgs >=4", 2),
    Pack("hull-atlas", "python", "0.5.0", 4, OWN, "Every hull we have seen, on one map", "python >=3.11; geopandas >=0.14; hullscan >=1.7", 1),
    Pack("thruster-dashboard", "python", "0.9.4", 5, OWN, "Hours, temperatures and failures of every thruster", "python >=3.11; panel >=1.4; duckdb >=1.0; tidelog >=3", 2),
    Pack("quote-maker", "python", "0.3.2", 3, OWN, "Offers for inspections, with prices that add up", "python >=3.11; weasyprint >=62", 1),
    Pack("tide-alarm", "python", "0.2.0", 2, OWN, "Tells the team when the water is low enough", "python >=3.11; httpx >=0.27; marsh-geodesy >=1.2", 1),
    Pack("license-sheet", "python", "1.0.1", 3, OWN, "Which licences are in an image", "python >=3.11; rich >=13", 1),
    Pack("pier-photos", "python", "0.1.4", 2, OWN, "Sorts photographs by pier and pile", "python >=3.11; pillow >=10; marsh-markers >=1.1", 1),
    Pack("lab-inventory", "python", "0.6.0", 3, OWN, "Where the torque wrench is", "python >=3.11; sqlmodel >=0.0.19", 1),
    Pack("firmware-signer", "tool", "1.2.0", 3, OWN, "Signs firmware with the key in the safe", "libsodium >=1.0.20,<1.0.21.0a0", 1),
    Pack("recording-anonymiser", "python", "0.4.0", 2, OWN, "Takes people and ship names out of recordings", "python >=3.11; tidelog >=3.3; hullscan >=1.8", 1),
    Pack("onboarding", "meta", "1.3.0", 4, OWN, "What everybody installs in the first week", "marsh-release >=1.10; saltmarsh-cli >=2.7; tidelog-view >=1.6; pre-commit", 2),
)  # fmt: skip

FLEET = (
    Pack("fleet-image-heron", "meta", "26.11.0", 9, OWN, "The pinned set for the Heron, three thrusters", "fleet-agent >=2.9; saltmarsh-robot =5.2; fleet-missions >=1.8; heron-firmware =3.4", 3),
    Pack("fleet-image-curlew", "meta", "26.11.0", 8, OWN, "The pinned set for the Curlew, six thrusters", "fleet-agent >=2.9; saltmarsh-robot =5.2; fleet-missions >=1.8; curlew-firmware =2.1", 3),
    Pack("fleet-image-dunlin", "meta", "26.10.2", 6, OWN, "The pinned set for the Dunlin, the small one", "fleet-agent >=2.8; saltmarsh-robot =5.1; fleet-missions >=1.7; dunlin-firmware =1.6", 2),
    Pack("fleet-agent", "robot", "2.9.1", 12, OWN, "Fetches the night's update, and goes back when it fails", "saltmarsh-core >=5.1,<6; libcurl >=8,<9.0a0; openssl >=3.3,<4.0a0", 4),
    Pack("fleet-missions", "robot", "1.8.0", 7, OWN, "Missions customers have paid for", "marsh-behaviours >=1.4; marsh-plan >=2,<3", 3),
    Pack("fleet-telemetry", "robot", "1.5.3", 5, OWN, "What a robot tells us, and nothing it should not", "shorelink >=4,<5; zstd >=1.5,<1.6.0a0", 3),
    Pack("fleet-watchdog", "robot", "1.1.0", 4, OWN, "Brings a robot to the surface when nothing else works", "libmarsh >=5,<6", 3),
    Pack("heron-firmware", "data", "3.4.0", 5, OWN, "Firmware of the Heron's boards", "", 2),
    Pack("curlew-firmware", "data", "2.1.1", 4, OWN, "Firmware of the Curlew's boards", "", 2),
    Pack("dunlin-firmware", "data", "1.6.0", 3, OWN, "Firmware of the Dunlin's boards", "", 1),
    Pack("fleet-keys", "data", "2026.3", 3, OWN, "Public keys robots trust", "", 2),
    Pack("fleet-maps-north", "data", "2026.9", 4, OWN, "Piers and locks of the northern customers", "", 1),
    Pack("fleet-maps-south", "data", "2026.9", 4, OWN, "Piers and locks of the southern customers", "", 1),
    Pack("fleet-provision", "tool", "1.0.3", 3, OWN, "Makes a new robot a member of the fleet", "saltmarsh-cli >=2.7", 1),
    Pack("fleet-rollout", "python", "1.6.0", 5, OWN, "One robot, then ten, then all", "python >=3.11; click >=8.1; fleet-telemetry >=1.5", 2),
    Pack("fleet-postmortem", "python", "0.8.0", 3, OWN, "What the last minute before a failure looked like", "python >=3.11; tidelog >=3.3; pandas >=2.1", 1),
)  # fmt: skip

POLAR = (
    Pack("icefloe", "extension", "2.2.0", 10, PERMISSIVE, "Sea ice as particles: drift, ridging, melt", "python >=3.10; numpy >=1.24,<3; libnetcdf >=4.9,<4.10.0a0", 6, description="A discrete model of sea ice. Floes are polygons that collide, break and freeze together; the ocean below and the wind above are given as NetCDF files."),
    Pack("icefloe-plots", "python", "1.4.0", 5, PERMISSIVE, "Maps and films of icefloe's output", "python >=3.10; icefloe >=2; cartopy >=0.22; matplotlib-base >=3.8", 3),
    Pack("icefloe-testdata", "data", "2.2.0", 2, "CC-BY-4.0", "Two thousand small grids against which icefloe is tested", "", 2),
    Pack("brinepy", "python", "1.9.2", 9, PERMISSIVE, "Salinity, density and freezing point of seawater", "python >=3.9; numpy >=1.22; gsw >=3.6", 6),
    Pack("brinepy-dask", "python", "0.3.0", 2, PERMISSIVE, "The same for arrays that do not fit into memory", "python >=3.10; brinepy >=1.8; dask >=2024.1", 2),
    Pack("ctd-casts", "data", "2025.8", 3, "CC0-1.0", "A hundred profiles of temperature and salinity for lectures", "", 2),
    Pack("ctd-tools", "python", "3.1.0", 8, PERMISSIVE, "Reads the files of eleven makes of CTD, and says what is wrong with them", "python >=3.9; xarray >=2023.12; pandas >=2; brinepy >=1.7", 4),
    Pack("mooring", "python", "1.2.0", 5, PERMISSIVE, "Designs a mooring line and tells how far it leans", "python >=3.9; scipy >=1.11", 2),
    Pack("adcp-kit", "extension", "1.6.1", 6, PERMISSIVE, "Currents from acoustic Doppler profilers", "python >=3.10; numpy >=1.24,<3; xarray >=2023.12", 3),
    Pack("underice", "extension", "0.9.0", 6, COPYLEFT, "Currents and melt below an ice shelf", "python >=3.10; numpy >=1.24,<3; mpi4py >=3.1; libnetcdf >=4.9,<4.10.0a0", 3),
    Pack("polynya", "python", "1.0.2", 4, PERMISSIVE, "Finds open water in satellite pictures of ice", "python >=3.10; rasterio >=1.3; scikit-image >=0.22", 2),
    Pack("seaice-readers", "python", "2.4.0", 7, PERMISSIVE, "Ice concentration from four satellites, on one grid", "python >=3.10; xarray >=2023.12; h5netcdf; pyproj >=3.6", 3),
    Pack("pack-drift", "python", "0.7.1", 4, PERMISSIVE, "Where a floe will be next week, and how sure that is", "python >=3.10; icefloe >=2; seaice-readers >=2.2", 2),
    Pack("halocline", "python", "1.1.0", 4, MIT, "Finds layers in profiles", "python >=3.9; numpy; brinepy >=1.6", 2),
    Pack("thermokarst", "extension", "0.5.0", 3, COPYLEFT, "Lakes that grow in thawing ground", "python >=3.10; numpy >=1.24,<3", 1),
    Pack("cruise-log", "python", "1.8.0", 6, MIT, "The log book of a cruise, on paper and in a file", "python >=3.9; pydantic >=2", 2),
    Pack("cruise-forms", "data", "1.8.0", 3, "CC0-1.0", "Forms that cruise-log fills in", "", 1),
    Pack("station-map", "python", "0.6.0", 3, MIT, "Stations on a map that can be printed on board", "python >=3.9; cartopy >=0.22", 1),
    Pack("libpolar", "library", "1.5.0", 6, PERMISSIVE, "Grids around the poles, for C and Fortran", "libnetcdf >=4.9,<4.10.0a0; proj >=9.4,<9.5.0a0", 3),
    Pack("polar-regrid", "tool", "1.1.0", 4, PERMISSIVE, "From one polar grid to another without losing any ice", "libpolar >=1.5,<2", 2),
    Pack("polar-grids", "data", "1.5.0", 3, "CC0-1.0", "The definitions of twenty grids", "", 2),
    Pack("icecore", "python", "2.0.0", 5, PERMISSIVE, "Ages along an ice core", "python >=3.9; scipy >=1.11; emcee >=3.1", 2),
    Pack("icecore-tables", "data", "2.0.0", 2, "CC0-1.0", "Volcanoes and solar cycles to count by", "", 1),
    Pack("albedo-net", "python", "0.4.0", 3, MIT, "A small network that guesses how bright snow is", "python >=3.10; pytorch-cpu >=2.3", 1),
    Pack("snowpit", "python", "1.3.1", 4, MIT, "Notes from snow pits, checked as they are typed", "python >=3.9; pydantic >=2", 1),
    Pack("r-brine", "library", "1.9.0", 4, PERMISSIVE, "brinepy's equations for R", "r-base >=4.4,<4.5.0a0", 1),
    Pack("paper-2025-ridging", "meta", "1.0.0", 1, "CC-BY-4.0", "The exact versions behind our paper on pressure ridges", "icefloe ==2.0.0; icefloe-plots ==1.2.0; python 3.11.*", 1),
    Pack("paper-2026-melt", "meta", "1.1.0", 2, "CC-BY-4.0", "The exact versions behind our paper on melt below ice shelves", "underice ==0.9.0; brinepy ==1.9.2; python 3.12.*", 1),
)  # fmt: skip

POLAR_BENCH = (
    Pack("icefloe", "extension", "3.0.0a4", 4, PERMISSIVE, "Sea ice as particles: the next version, with waves", "python >=3.12; numpy >=2,<3; libnetcdf >=4.9,<4.10.0a0", 2),
    Pack("underice", "extension", "1.0.0rc2", 3, COPYLEFT, "Currents and melt below an ice shelf: towards 1.0", "python >=3.12; numpy >=2,<3; mpi4py >=4", 1),
    Pack("glider-twin", "python", "0.2.0", 3, MIT, "A simulated glider next to the real one", "python >=3.12; brine-sim >=2.4; underice >=1.0.0rc1", 1),
    Pack("krill-tracks", "python", "0.1.1", 2, MIT, "Who swims where under the ice", "python >=3.12; icefloe >=3.0.0a3; scikit-learn >=1.5", 1),
    Pack("melt-ensemble", "data", "0.3.0", 2, "CC-BY-4.0", "Forty runs of underice, thinned out", "", 1),
    Pack("review-figures", "python", "0.0.4", 2, MIT, "Figures for the second reviewer", "python >=3.12; icefloe-plots >=1.4", 1),
)  # fmt: skip

LONG = "a-package-whose-name-is-as-long-as-any-name-may-be-and-no-longer"

ODDITIES = (
    Pack(LONG, "python", "1!2026.11.21.post3+local.build.7", 3, MIT, "The longest name there can be, with a version to match, and a summary that goes on for longer than any line that a list of packages would like to give it, so that it has to be cut or wrapped somewhere", "python >=3.9", 1),
    Pack("shalom-olam", "python", "1.0.0", 2, MIT, "שלום עולם: חבילה שהתקציר שלה כתוב מימין לשמאל", "python >=3.9", 1),
    Pack("marhaba", "python", "1.2.0", 2, MIT, "مرحبا بالعالم: حزمة ملخصها مكتوب من اليمين إلى اليسار (version 1.2)", "python >=3.9", 1),
    Pack("emoji-parade", "python", "2.0.0", 2, MIT, "🦀🌊🤖 Pictures instead of words 👩‍🔬👨🏽‍🚀 🇳🇴 — and a family: 👨‍👩‍👧‍👦", "python >=3.9", 1),
    Pack("not-markup", "python", "0.6.6", 2, '<b>MIT</b> & "more"', "<script>alert('summary')</script> \"><img src=x onerror=alert(1)> {{ 7 * 7 }} ${7*7}", "python >=3.9; not-a-real-dependency", 1, description="<iframe src=javascript:alert(1)></iframe>\n\n[click](javascript:alert(2)) <svg onload=alert(3)>"),
    Pack("many-words", "python", "0.1.0", 1, MIT, "Ein Wort: Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaftsvorsitzender", "python >=3.9", 1),
)  # fmt: skip

TRIAL = (
    Pack("pier-trial-image", "meta", "0.4.0", 3, OWN, "The set that ran at the pier", "saltmarsh-robot >=4", 1),
    Pack("pier-trial-logger", "python", "0.2.0", 2, OWN, "Writes down what the tide gauge said", "python >=3.11; tidelog >=3", 1),
)  # fmt: skip

# What the packages above need of a public channel, so that they can be installed. rclpy is in another one that is not here.
STAND_INS = """
cartopy 0.24.1, ceres-solver 2.2.0, click 8.1.8, cmake 3.31.2, cxx-compiler 1.9.0, dask 2024.12.1, duckdb 1.1.3, eigen 3.4.0,
emcee 3.1.6, fftw 3.3.10, flatbuffers 24.3.25, fmt 11.0.2, geopandas 1.0.1, gitpython 3.1.43, gsw 3.6.19, gymnasium 1.0.0,
h5netcdf 1.4.1, httpx 0.28.1, jinja2 3.1.4, libcurl 8.11.1, libcxx 19.1.5, libgcc 14.2.0, libjpeg-turbo 3.0.4,
libnetcdf 4.9.2, libsodium 1.0.20, libstdcxx 14.2.0, libzlib 1.3.1, matplotlib-base 3.9.3, mpi4py 4.0.1, msgpack-cxx 6.1.1,
msgpack-python 1.1.0, netcdf4 1.7.2, ninja 1.12.1, numpy 2.1.3, ompl 1.6.0, onnxruntime 1.20.1, openpyxl 3.1.5,
openssl 3.4.0, osqp 0.6.7, paho-mqtt-c 1.3.13, pandas 2.2.3, panel 1.5.4, pillow 11.0.0, pre-commit 4.0.1, proj 9.4.1,
py-opencv 4.10.0, py-trees 2.2.3, pyarrow 18.1.0, pydantic 2.10.3, pyproj 3.7.0, pyqtgraph 0.13.7, pyside6 6.8.1,
pytest 8.3.4, python 3.12.8, python_abi 3.12, pytorch-cpu 2.5.1, r-base 4.4.2, rasterio 1.4.3, rattler-build 0.33.0, rclone 1.68.2,
rich 13.9.4, scikit-image 0.24.0, scikit-learn 1.6.0, scipy 1.14.1, spdlog 1.14.1, sqlmodel 0.0.22, starlette 0.41.3,
ucrt 10.0.22621.0, uvicorn 0.32.1, v4l-utils 1.28.1, vc14_runtime 14.42.34433, weasyprint 63.1, xarray 2024.11.0,
yaml-cpp 0.8.0, zeromq 4.3.5, zstandard 0.23.0, zstd 1.5.6
"""
FORGE = tuple(
    Pack(name, "meta", version, 1, "LicenseRef-Stand-in", f"Stands in for the {name} of a public channel", "", 2)
    for name, version in (one.split() for one in STAND_INS.split(","))
)

SHELVES: dict[str, tuple[Pack, ...]] = {
    "saltmarsh": SALTMARSH,
    "saltmarsh-tools": TOOLS,
    "saltmarsh-fleet": FLEET,
    "polar-ocean": POLAR,
    "polar-ocean-bench": POLAR_BENCH,
    "oddities": ODDITIES,
    "forge": FORGE,
    "pier-trial": TRIAL,
}
BIG = "icefloe-testdata"  # its archive has 2,000 files
SCRIPTED = frozenset(("udev-saltmarsh", "fleet-agent", "pier-trial-logger"))  # they run something when installed
HOSTILE = "not-markup"
YANKED = ("saltmarsh", "driver-imu-nine", "Wrong temperature table: headings drift by two degrees in cold water.")
REMOVED = ("saltmarsh-tools", "quote-maker")
# In a small demo: a channel's first packages and these, and no more releases of one than that
FEW_PACKAGES, FEW_RELEASES = 2, 3
ALWAYS = frozenset((YANKED[1], REMOVED[1], BIG, *(pack.name for pack in (*ODDITIES, *FORGE))))


def shelf(channel: str, *, small: bool) -> list[Pack]:
    """The packages of a channel."""
    return [pack for n, pack in enumerate(SHELVES[channel]) if not small or n < FEW_PACKAGES or pack.name in ALWAYS]
