"""`python -m fairway.building SUBDIR_ID`: the flat documents of one large subdir, for a server that has better things to do
(`tasks.build`).
"""

from __future__ import annotations

import sys

from fairway import logs, settings
from fairway.app import Fairway
from fairway.errors import FairwayError
from fairway.registry import flat
from fairway.sandbox.confined import end_with_input


def main() -> None:
    end_with_input()
    loaded = settings.load({})
    logs.configure(loaded.settings.log_format, loaded.settings.log_level)
    with Fairway(loaded) as app:
        try:
            flat.build_flat(app.database, app.blobs, app.staging, int(sys.argv[1]), now=app.now())
        except FairwayError as error:
            sys.exit(error.detail)


if __name__ == "__main__":
    main()
