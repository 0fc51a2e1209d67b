"""`python -m condgen` is `condgen`."""

import sys

from condgen.cli.main import main

sys.exit(main())
