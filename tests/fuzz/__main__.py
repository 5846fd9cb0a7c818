"""The work is in a module of its own: a worker process cannot be handed functions of this one."""

import sys

from tests.fuzz.campaign import main

if __name__ == "__main__":
    sys.exit(main())
