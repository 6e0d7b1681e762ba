"""`python infer.py --config RECIPE ...`: the seed system's flags for `maskrcnn predict`."""

from maskrcnn.cli.seed_scripts import infer

if __name__ == "__main__":
    infer()
