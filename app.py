"""Opens the studio: python app.py [--model NAME] [--data PATH] [--host ADDRESS] [--port N] [--share]; see --help."""

import sys

from condgen.studio.serve import main

if __name__ == "__main__":
    sys.exit(main())
