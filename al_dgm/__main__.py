"""`python -m al_dgm` is `al-dgm`."""

from al_dgm.cli import main

if __name__ == "__main__":
    main()
