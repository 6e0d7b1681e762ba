"""`python eval.py --config RECIPE ...`: the seed system's flags for `maskrcnn eval`."""

from maskrcnn.cli.seed_scripts import evaluate

if __name__ == "__main__":
    evaluate()
