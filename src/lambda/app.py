"""The entry: hands the process to the host that fits the machine."""

import os
import sys

from stile import local

if __name__ == "__main__":
    sys.exit(local.main(sys.argv[1:], os.environ))
