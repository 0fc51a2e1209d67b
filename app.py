"""Opens the studio: python app.py [--model NAME] [--host ADDRESS] [--port N] [--share] [--auth NAME:PASSWORD]"""

import sys

from condgen.studio.serve import main

if __name__ == "__main__":
    sys.exit(main())
