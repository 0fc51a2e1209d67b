"""Opens the studio, one page for all models: python app.py [--model NAME] [--outputs DIR]; see --help."""

import sys

from condgen.studio.server.serve import main

if __name__ == "__main__":
    sys.exit(main())
