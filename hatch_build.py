"""The build hook: a wheel and a source distribution hold the bundle of the pages, so that installing needs no node."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Pages(BuildHookInterface):
    """Builds the bundle if it is not there, or is not of these sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the interface
        root = Path(self.root)
        manifest = root / "src" / "fairway" / "web" / "static" / "dist" / "manifest.json"
        if (root / "PKG-INFO").is_file() and manifest.is_file():
            return  # an unpacked source distribution brings it along
        spec = importlib.util.spec_from_file_location("bundle", root / "frontend" / "bundle.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("frontend/bundle.py is missing")
        bundle = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bundle)
        if not bundle.fresh():
            bundle.build()
