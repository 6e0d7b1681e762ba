"""`python infer.py --config RECIPE ...`: a door to `maskrcnn predict` that keeps its ancestor's flags."""

from maskrcnn.cli.doors import infer

if __name__ == "__main__":
    infer()
